from pathlib import Path
from threading import Thread

import pytest

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.registry import judge, promote
from jobs.registry.champion import exclusive
from jobs.registry.versions import CHAMPION, incumbent_version, numbered_version
from jobs.serving.store import ServingStore
from tests.jobs.registry.test_registry import alias, enter, on_day, prepare_day
from tests.jobs.serving_days import act, enter_with_bundle, move_alias, publish_day, run_folder

pytestmark = pytest.mark.mlflow


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def tags(settings: PipelineSettings, number: str) -> dict[str, str]:
    version = numbered_version(settings, number)
    assert version is not None
    return version.tags


def test_the_champion_is_published_once(settings: PipelineSettings, home: Path) -> None:
    store = ServingStore.of(settings)
    status, record = act("publish_champion", settings, "early", reason="")
    assert (status, record["summary"]["bundle"]) == (0, None)
    assert "no version carries the alias" in record["message"]

    number = enter_with_bundle(settings)
    promote.run(settings)
    status, record = act("publish_champion", settings, "first", reason="")
    name = record["summary"]["bundle"]
    assert (status, record["state"], record["summary"]["changed"]) == (0, "success", True)
    assert name == store.current() == f"{settings.ds}-v{number}-{tags(settings, number)['esans.bundle_digest'][:8]}"
    assert (store.path(name) / "model.txt").read_text() == "version 1"
    entry = store.history()[-1]
    assert (entry["by"], entry["version"]) == ("ann", number)
    assert "promoted by pipeline" in entry["reason"]
    before = files(settings.serving_root)
    status, record = act("publish_champion", settings, "first", reason="")
    assert (status, record["summary"]["changed"]) == (0, False)
    assert files(settings.serving_root) == before


def test_an_alias_moved_to_an_unchecked_version_is_put_back(settings: PipelineSettings, home: Path) -> None:
    name, tomorrow = publish_day(settings), on_day(settings, 1)
    bad = enter_with_bundle(tomorrow, recall=0.001, champion=0.2)
    move_alias(settings, bad)
    before = files(settings.serving_root)
    status, record = act("publish_champion", settings, "a")
    assert (status, record["state"]) == (65, "failed")
    for said in (
        "version 2 of esans-retrieval: was refused",
        "did not pass the gate",
        "the alias is at version 1 again",
        f"{name} stays in force",
    ):
        assert said in record["message"]
    assert alias(settings) == "1"
    assert "did not pass the gate" in tags(settings, bad)["esans.refused_reason"]
    assert "esans.refused_at" in tags(settings, bad)
    assert files(settings.serving_root) == before
    assert act("publish_champion", settings, "b")[0] == 0
    assert files(settings.serving_root) == before


def test_an_alias_without_a_checked_version_to_go_back_to_is_removed(settings: PipelineSettings, home: Path) -> None:
    tomorrow = on_day(settings, 1)
    bad = enter_with_bundle(settings, recall=0.001)
    move_alias(settings, bad)
    status, record = act("publish_champion", settings, "a")
    assert (status, alias(settings)) == (65, None)
    assert "the alias was removed, and nothing is in force" in record["message"]
    publish_day(tomorrow)
    move_alias(settings, bad)
    next(run_folder(settings, "2").rglob("towers.safetensors")).write_bytes(b"another model")
    status, record = act("publish_champion", settings, "b")
    assert (status, alias(settings)) == (65, None)
    assert "the alias was removed, and bundle 2026-01-29-v2-" in record["message"]
    assert ServingStore.of(settings).current() is not None
    status, record = act("publish_champion", settings, "c")  # until a person acts, it stays an alert
    assert (status, alias(settings)) == (65, None)
    assert "cannot take the alias back: its files are not those that were judged" in record["message"]


@pytest.mark.parametrize("file", ["towers.safetensors", "model.txt", "bundle.json"])
def test_a_champion_whose_files_were_changed_is_not_published(settings: PipelineSettings, home: Path, file: str) -> None:
    enter_with_bundle(settings)
    promote.run(settings)
    path = next(run_folder(settings, "1").rglob(file))
    path.write_text(path.read_text(errors="replace") + " ")
    status, record = act("publish_champion", settings, "a")
    assert (status, alias(settings)) == (65, None)
    assert "its files are not those that were judged" in record["message"]
    assert ServingStore.of(settings).names() == []


@pytest.mark.parametrize("judged_again", [False, True])
def test_a_champion_whose_digest_was_changed_is_not_published(
    settings: PipelineSettings, home: Path, judged_again: bool
) -> None:
    number = enter_with_bundle(settings)
    digest = tags(settings, number)["esans.bundle_digest"]
    client(settings).set_model_version_tag(settings.registry.model_name, number, "esans.bundle_digest", digest[:8] + "0" * 56)
    if judged_again:
        judge.run(settings)
    move_alias(settings, number)
    status, record = act("publish_champion", settings, "a")
    assert (status, alias(settings)) == (65, None)
    assert "its bundle is not the one that was judged" in record["message"]
    assert ServingStore.of(settings).names() == []


def test_a_champion_without_a_bundle_is_not_published(settings: PipelineSettings, home: Path) -> None:
    prepare_day(settings)
    enter(settings)
    judge.run(settings)
    assert promote.run(settings)["verdict"] == "promoted"
    status, record = act("publish_champion", settings, "a")
    assert (status, alias(settings)) == (65, None)
    assert "carries no serving bundle" in record["message"] and "register" in record["message"]


def test_an_alias_moved_to_a_version_that_passed_is_honoured(settings: PipelineSettings, home: Path) -> None:
    one = publish_day(settings)
    held = on_day(settings, 1, promotion="never")
    number = enter_with_bundle(held, champion=0.2)
    assert promote.run(held)["verdict"] == "not_promoted_by_policy"
    move_alias(settings, number)
    status, record = act("publish_champion", settings, "a")
    assert (status, record["summary"]["before"], record["summary"]["version"]) == (0, one, number)
    assert alias(settings) == number
    stored = tags(settings, number)
    assert stored["esans.promoted_by"] == "unknown (moved in the registry)"
    assert stored["esans.replaced_version"] == "1"
    assert str(incumbent_version(held).version) == "1"
    assert str(incumbent_version(on_day(settings, 2)).version) == number
    # And back again, to the older one: the same, with the newer one taken back.
    move_alias(settings, "1")
    assert act("publish_champion", settings, "b")[0] == 0
    assert ServingStore.of(settings).current() == one
    assert tags(settings, number)["esans.withdrawn_by"] == "unknown (moved in the registry)"
    assert promote.run(held)["verdict"] == "kept_champion"


def test_a_version_that_waits_for_its_review_is_not_published(settings: PipelineSettings, home: Path) -> None:
    reviewed = on_day(settings, 0, promotion="review")
    move_alias(reviewed, enter_with_bundle(reviewed))
    status, record = act("publish_champion", reviewed, "a")
    assert (status, alias(reviewed)) == (65, None)
    assert "asks for an approval too" in record["message"]


def test_an_alias_that_is_gone_leaves_the_bundle_in_force(settings: PipelineSettings, home: Path) -> None:
    name = publish_day(settings)
    client(settings).delete_registered_model_alias(settings.registry.model_name, CHAMPION)
    status, record = act("publish_champion", settings, "a")
    assert (status, alias(settings), ServingStore.of(settings).current()) == (65, "1", name)
    assert "version 1 again, and the bundle stays" in record["message"]


def test_what_moves_the_alias_waits_for_its_turn(settings: PipelineSettings, home: Path) -> None:
    enter_with_bundle(settings)
    with exclusive(settings):
        waiting = [Thread(target=promote.run, args=(settings,)), Thread(target=judge.run, args=(settings,))]
        for thread in waiting:
            thread.start()
        waiting[0].join(1.5)
        assert [thread.is_alive() for thread in waiting] == [True, True]
        assert alias(settings) is None
    for thread in waiting:
        thread.join()
    assert alias(settings) == "1"


def test_without_the_key_nothing_is_published_and_nothing_put_back(settings: PipelineSettings, home: Path) -> None:
    number = enter_with_bundle(settings)
    promote.run(settings)
    (home / "keys" / "gate.key").rename(home / "key")
    status, record = act("publish_champion", settings, "a")
    assert (status, alias(settings)) == (65, number)
    assert "cannot be read" in record["message"]
    (home / "key").rename(home / "keys" / "gate.key")
    assert act("publish_champion", settings, "b")[0] == 0
