"""A version that a share of the users try: what may be one, and what ends it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.registry.versions import champion_version
from jobs.serving.store import ServingStore
from tests.jobs.registry.test_registry import on_day
from tests.jobs.serving_days import act, publish_day
from tests.tutorials import ROOT, blocks

pytestmark = pytest.mark.mlflow


@pytest.fixture
def published(settings: PipelineSettings, home: Path) -> list[str]:
    """Bundles of versions 1, 2 and 3, of three days; the last is in force."""
    first = publish_day(settings)
    return [first, *(publish_day(on_day(settings, day), champion=0.2) for day in (1, 2))]


def test_a_version_is_tried_and_nothing_else_changes(settings: PipelineSettings, published: list[str]) -> None:
    store = ServingStore.of(settings)
    status, record = act("canary", settings, "one", version="2", share="0.1")
    assert status == 0 and record["summary"]["bundle"] == published[1]
    found = store.canary()
    assert found is not None
    assert (found["name"], found["share"], found["version"], found["by"]) == (published[1], 0.1, "2", "ann")
    assert store.current() == published[2] and str(champion_version(settings).version) == "3"
    assert act("canary", settings, "more", version="2", share="0.4")[0] == 0
    assert (store.canary() or {})["share"] == 0.4
    status, record = act("canary", settings, "end")
    assert (status, store.canary()) == (0, None) and published[1] in record["message"]
    assert "there was no canary" in act("canary", settings, "again")[1]["message"]


def test_the_lines_of_the_docs_start_and_end_it(settings: PipelineSettings, published: list[str]) -> None:
    (text,) = [block.text for block in blocks("../serving.md") if block.kind == "canary"]
    shares = []
    for line in text.splitlines():
        words = shlex.split(line.replace("var/embedded", str(settings.home)).replace("--version 4", "--version 2"))
        assert words[0] == ".venv/bin/python"
        subprocess.run([sys.executable, *words[1:]], cwd=ROOT, check=True, timeout=300)
        shares.append((ServingStore.of(settings).canary() or {}).get("share"))
    assert shares == [0.1, None]


def test_it_ends_with_any_change_of_the_bundle_in_force(settings: PipelineSettings, published: list[str]) -> None:
    store = ServingStore.of(settings)
    assert act("canary", settings, "one", version="1", share="0.1")[0] == 0
    assert act("rollback", settings, "back")[0] == 0
    assert store.current() == published[1] and store.canary() is None


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"version": "2"}, "--share must be a number above 0"),
        ({"version": "2", "share": "0.9"}, "at most 0.5"),
        ({"version": "2", "share": "nan"}, "--share must be a number above 0"),
        ({"share": "0.1"}, "without --version"),
        ({"version": "99", "share": "0.1"}, "there is no version"),
        ({"version": "3", "share": "0.1"}, "is in force"),
    ],
)
def test_what_cannot_be_tried_is_refused(
    settings: PipelineSettings, published: list[str], options: dict[str, str], word: str
) -> None:
    status, record = act("canary", settings, "one", **options)
    assert status == 65 and word in record["message"] and ServingStore.of(settings).canary() is None


def test_what_a_person_took_back_is_not_tried_on_anybody(settings: PipelineSettings, published: list[str]) -> None:
    assert act("rollback", settings, "back", reason="wrong prices")[0] == 0
    status, record = act("canary", settings, "one", version="3", share="0.1")
    assert status == 65 and "wrong prices" in record["message"]


def test_without_a_bundle_in_force_nobody_can_be_compared(settings: PipelineSettings, home: Path) -> None:
    status, record = act("canary", settings, "one", version="1", share="0.1")
    assert status == 65 and "promote a version first" in record["message"]
