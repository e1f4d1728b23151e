from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.registry.champion import put_in_force
from jobs.registry.versions import incumbent_version, numbered_version
from jobs.serving.store import ServingStore
from jobs.step.metrics_file import metrics_path
from tests.jobs.registry.test_registry import alias, on_day, prepare_day, settle
from tests.jobs.serving_days import act, publish_day

pytestmark = pytest.mark.mlflow


@pytest.fixture
def published(settings: PipelineSettings, home: Path) -> list[str]:
    """Bundles of versions 1, 2 and 3, of three days; the last is in force."""
    first = publish_day(settings)
    return [first, *(publish_day(on_day(settings, day), champion=0.2) for day in (1, 2))]


def state(settings: PipelineSettings) -> tuple[str | None, str | None]:
    return ServingStore.of(settings).current(), alias(settings)


def test_one_step_goes_back_and_nothing_later_undoes_it(settings: PipelineSettings, published: list[str]) -> None:
    wednesday = on_day(settings, 2)
    status, record = act("rollback", settings, "one", reason="wrong prices")
    assert (status, state(settings)) == (0, (published[1], "2"))
    assert (record["summary"]["bundle"], record["summary"]["before"]) == (published[1], published[2])
    entry = ServingStore.of(settings).history()[-1]
    assert (entry["name"], entry["by"], entry["reason"], entry["version"]) == (published[1], "ann", "wrong prices", "2")
    numbers = metrics_path(settings).read_text()
    assert "esans_champion_version 2.0" in numbers and "esans_serving_version 2.0" in numbers
    withdrawn, back = (numbered_version(settings, number).tags for number in ("3", "2"))
    assert (withdrawn["esans.withdrawn_by"], back["esans.promoted_by"]) == ("ann", "ann")
    assert "wrong prices" in withdrawn["esans.withdrawal_reason"]

    assert act("rollback", settings, "one", reason="wrong prices")[0] == 0  # the same action again goes no further
    assert state(settings) == (published[1], "2")
    status, record = act("publish_champion", settings, "hourly", reason="")
    assert (status, record["summary"]["changed"], state(settings)) == (0, False, (published[1], "2"))
    prepare_day(wednesday, champion=0.2)
    assert settle(wednesday)["verdict"] == "kept_champion"
    assert state(settings) == (published[1], "2")
    assert str(incumbent_version(on_day(settings, 3)).version) == "2"
    assert publish_day(on_day(settings, 3), champion=0.2).startswith("2026-01-31-v4-")


def test_to_any_bundle_and_forth_again(settings: PipelineSettings, published: list[str]) -> None:
    assert act("rollback", settings, "a", to=published[0])[0] == 0
    assert state(settings) == (published[0], "1")
    for day in (1, 2):
        prepare_day(on_day(settings, day), champion=0.2)
        assert settle(on_day(settings, day))["verdict"] == "kept_champion"
    status, record = act("rollback", settings, "b")
    assert (status, state(settings)) == (65, (published[0], "1"))
    assert "there is no earlier bundle" in record["message"]
    assert act("rollback", settings, "c", to=published[2])[0] == 0
    assert state(settings) == (published[2], "3")
    assert "esans.withdrawn_by" not in numbered_version(settings, "3").tags
    assert act("rollback", settings, "d")[0] == 0
    assert state(settings) == (published[0], "1")  # what was in force before; the second was taken back with the first step


def test_what_is_not_there_or_not_whole_is_refused(settings: PipelineSettings, published: list[str]) -> None:
    for name in ("2026-01-28-v9-00000000", "../../keys"):
        status, record = act("rollback", settings, "a", to=name)
        assert status == 65
        assert published[0] in record["message"]
    (ServingStore.of(settings).path(published[1]) / "model.txt").write_text("another model")
    assert act("rollback", settings, "b")[0] == 65
    assert state(settings) == (published[2], "3")
    assert act("rollback", settings, "c", to=published[0])[0] == 0


def test_what_was_interrupted_is_completed_by_the_next_publication(settings: PipelineSettings, published: list[str]) -> None:
    two, three = (numbered_version(settings, number) for number in ("2", "3"))
    put_in_force(settings, two, incumbent="1", by="ann", reason="rolled back", previous=three)
    assert act("publish_champion", settings, "hourly")[0] == 0
    assert state(settings) == (published[1], "2")


def test_a_bundle_whose_version_is_gone_serves_without_an_alias(settings: PipelineSettings, published: list[str]) -> None:
    client(settings).delete_model_version(settings.registry.model_name, "2")
    status, record = act("rollback", settings, "a", to=published[1])
    assert (status, state(settings)) == (0, (published[1], None))
    assert "no longer has its version" in record["message"]
    numbers = metrics_path(settings).read_text()
    assert "esans_heartbeat" in numbers and "_version " not in numbers, "there is no number to tell"
    assert act("publish_champion", settings, "hourly")[0] == 0
    assert state(settings) == (published[1], None)


def test_before_anything_was_published(settings: PipelineSettings, home: Path) -> None:
    status, record = act("rollback", settings, "a")
    assert (status, record["state"]) == (65, "failed")
    assert "publish a champion first" in record["message"]
