"""The pages as a browser shows them: wide and on a phone, nothing overflows, and nothing keeps anybody out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.pages.addresses import DATA_DOCS
from jobs.report.__main__ import run
from jobs.report.summary import report_folder
from tests.jobs.report import test_report
from tests.jobs.report.test_headline import day

pytestmark = pytest.mark.browser
CHROMIUM = "/usr/bin/chromium"
finished = test_report.finished  # a fixture: a run that reached its end


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


def rolled_back(settings: PipelineSettings) -> None:
    day(settings, 0.5, 0.3)
    earlier, later = "2026-01-27-v1-0123abcd", f"{settings.ds}-v2-0123abcd"
    reason = "it is slow, " + 20 * "and a long reason has to wrap "
    entries = [
        {"at": f"2026-01-30T0{hour}:00:00+00:00", "name": name, "version": name[12], "by": "ann", "reason": reason}
        for hour, name in enumerate((earlier, later, earlier))
    ]
    settings.serving_root.mkdir(parents=True)
    (settings.serving_root / "history.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    (settings.serving_root / "CURRENT").write_text(json.dumps(entries[-1]))
    taken = {"decision": "withdrawn", "by": "ann", "at": "2026-01-30T02:00:00+00:00", "reason": reason, "version": "2"}
    write_json(settings.home / "decisions" / "w.json", taken)
    record = {"state": "success", "started_at": "2026-01-30T02:00:00+00:00", "message": reason, "summary": {"bundle": earlier}}
    write_json(settings.home / "actions" / "x" / "rollback.json", record)


@pytest.mark.parametrize("state", [first_day, better, worse, stopped, waits, rolled_back])
def test_nothing_overflows_and_axe_finds_no_serious_fault(browser: Browser, settings: PipelineSettings, state: Any) -> None:
    state(settings)
    run(settings)
    page = browser.new_page()
    for path in (settings.home / "reports" / "index.html", *(settings.home / "reports").glob("*/index.html")):
        _look_at(page, path)
    page.close()


def test_a_whole_page_and_its_data_docs_fit_a_phone(browser: Browser, finished: PipelineSettings) -> None:
    """Clusters, input, rows in quarantine, and the link to the Data Docs in which the gates leave their results."""
    docs = finished.home / DATA_DOCS / "index.html"
    docs.parent.mkdir(parents=True)
    docs.write_text("<p>what the gates found</p>")
    run(finished)
    text = (report_folder(finished) / "index.html").read_text()
    assert (
        all(f'<section id="{part}">' in text for part in ("clusters", "input", "gates"))
        and "unknown item" in text
        and docs.as_uri() in text
    )
    page = browser.new_page()
    _look_at(page, report_folder(finished) / "index.html")
    page.close()


def test_the_charts_are_drawn_by_the_script_and_say_what_is_under_the_pointer(
    browser: Browser, finished: PipelineSettings
) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    for path in (finished.home / "reports" / "index.html", report_folder(finished) / "index.html"):
        page.goto(path.as_uri())
        charts = page.locator("figure[data-chart]")
        assert charts.count()
        for number in range(charts.count()):
            drawn = charts.nth(number).locator(".js-plotly-plot")
            drawn.locator("svg.main-svg .trace").first.wait_for(state="attached", timeout=30_000)
            assert drawn.evaluate("plot => plot.data.length > 0 && plot.data.some(series => series.x.length > 0)")
            assert not charts.nth(number).locator("> img").is_visible(), "the still picture is for print"
    chart = page.locator("figure[data-chart] .js-plotly-plot").first
    chart.scroll_into_view_if_needed()
    place = chart.locator(".scatterlayer .trace .points path").first.bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    chart.locator(".hoverlayer .hovertext").first.wait_for(timeout=10_000)
    page.close()


def _look_at(page: Any, path: Path) -> None:
    page.goto(path.as_uri())
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("document.documentElement.scrollWidth <= window.innerWidth")  # the charts follow in a moment
    found = Axe().run(page).response["violations"]
    serious = [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]
    assert not serious, path
