"""The pages as a browser shows them: wide and on a phone, nothing overflows, and nothing keeps anybody out."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.report.__main__ import run
from tests.jobs.report.test_headline import day

pytestmark = pytest.mark.browser
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


def first_day(settings: PipelineSettings) -> None:
    day(settings, 0.5, None)


def better(settings: PipelineSettings) -> None:
    day(settings, 0.5, 0.3)


def worse(settings: PipelineSettings) -> None:
    day(settings, 0.3, 0.5)
    write_json(settings.run_dir / "verdict.json", {"verdict": "kept_champion", "version": "2", "champion_version": "1"})


def stopped(settings: PipelineSettings) -> None:
    failed = {"step": "prepare", "state": "failed", "message": "settings refused: training.epochs: " + 30 * "a long word "}
    write_json(settings.run_dir / "steps" / "prepare.json", failed)


def waits(settings: PipelineSettings) -> None:
    day(settings, 0.5, 0.3)
    write_json(settings.run_dir / "verdict.json", {"verdict": "awaiting_review", "version": "2", "champion_version": "1"})


@pytest.mark.parametrize("state", [first_day, better, worse, stopped, waits])
def test_nothing_overflows_and_axe_finds_no_serious_fault(browser: Browser, settings: PipelineSettings, state: Any) -> None:
    state(settings)
    run(settings)
    page = browser.new_page()
    for path in (settings.home / "reports" / "index.html", *(settings.home / "reports").glob("*/index.html")):
        _look_at(page, path)
    page.close()


def _look_at(page: Any, path: Path) -> None:
    page.goto(path.as_uri())
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")  # the charts follow in a moment
    found = Axe().run(page).response["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, path
