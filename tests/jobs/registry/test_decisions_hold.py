"""What a person decided about a model holds for its weights: under another key, under another name, and without its tags."""

from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.registry import judge, promote
from jobs.registry.versions import CHAMPION, incumbent_version, numbered_version
from jobs.serving.store import ServingStore
from tests.jobs.registry.test_registry import alias, on_day, prepare_day, settle, verdict
from tests.jobs.registry.test_review_answer import answer
from tests.jobs.serving_days import act, enter_with_bundle, move_alias, publish_day

pytestmark = pytest.mark.mlflow


def in_force(settings: PipelineSettings) -> str | None:
    return ServingStore.of(settings).current()


@pytest.fixture
def published(settings: PipelineSettings, home: Path) -> list[str]:
    """Bundles of versions 1, 2 and 3, of three days; the last is in force."""
    first = publish_day(settings)
    return [first, *(publish_day(on_day(settings, day), champion=0.2, seed=day) for day in (1, 2))]


# Going back


def test_the_default_passes_over_what_a_person_has_taken_back(settings: PipelineSettings, published: list[str]) -> None:
    assert act("rollback", settings, "a", reason="wrong prices")[0] == 0
    assert in_force(settings) == published[1]
    fourth = publish_day(on_day(settings, 3), champion=0.2, seed=3)
    assert in_force(settings) == fourth
    status, record = act("rollback", settings, "b", reason="slow")
    assert (status, in_force(settings), alias(settings)) == (0, published[1], "2")
    status, record = act("rollback", settings, "c")
    assert (status, in_force(settings), alias(settings)) == (0, published[0], "1")
    assert record["summary"]["passed_over"] == [fourth, published[2]]
    for name, why in ((fourth, "slow"), (published[2], "wrong prices")):
        assert f"{name} was passed over: it was taken back by ann" in record["message"] and why in record["message"]


def test_the_default_passes_over_what_was_deleted_or_rejected(settings: PipelineSettings, published: list[str]) -> None:
    reviewed = on_day(settings, 2, promotion="review")
    enter_with_bundle(reviewed, champion=0.2, seed=2, again=1)  # the weights of version 3, under another key
    answer(reviewed, "rejected", by="bob", reason="odd")
    promote.run(reviewed)
    fourth = publish_day(on_day(settings, 3), champion=0.2, seed=3)
    client(settings).delete_model_version(settings.registry.model_name, "2")
    status, record = act("rollback", settings, "a")
    assert (status, in_force(settings), alias(settings)) == (0, published[0], "1")
    assert f"{published[2]} was passed over: it was rejected by bob" in record["message"]
    assert f"{published[1]} was passed over: version 2 of esans-retrieval was deleted" in record["message"]
    assert fourth == record["summary"]["before"]


def test_a_bundle_that_cannot_go_back_because_all_were_taken_back_says_which_and_why(
    settings: PipelineSettings, published: list[str]
) -> None:
    assert act("rollback", settings, "a", to=published[0], reason="wrong prices")[0] == 0
    status, record = act("rollback", settings, "b")
    assert (status, in_force(settings)) == (65, published[0])
    assert "there is no earlier bundle to go back to" in record["message"]
    assert all(f"{name} was passed over: it was taken back by ann" in record["message"] for name in published[1:])
    assert act("rollback", settings, "c", to=published[2])[0] == 0  # named, it is a decision, and no mistake


# The same weights


@pytest.mark.parametrize("tags_deleted", [False, True])
def test_weights_that_were_taken_back_are_not_promoted_under_another_key(
    settings: PipelineSettings, published: list[str], tags_deleted: bool
) -> None:
    wednesday = on_day(settings, 2)
    assert act("rollback", settings, "a", reason="wrong prices")[0] == 0
    if tags_deleted:
        for key in ("esans.withdrawn_by", "esans.withdrawn_at", "esans.withdrawal_reason"):
            client(settings).delete_model_version_tag(settings.registry.model_name, "3", key)
        settle(wednesday)
        assert verdict(wednesday)["verdict"] == "kept_champion"
    again = enter_with_bundle(wednesday, champion=0.2, seed=2, again=1)
    assert (again, promote.run(wednesday)["verdict"]) == ("4", "kept_champion")
    assert "taken back by ann" in verdict(wednesday)["reasons"][-1]
    assert alias(settings) == "2"
    move_alias(settings, again)  # by somebody who gives no name and no reason
    status, record = act("publish_champion", settings, "hourly")
    assert (status, alias(settings), in_force(settings)) == (65, "2", published[1])
    assert "taken back by ann" in record["message"] and "promote it by hand" in record["message"]
    assert act("promote_version", settings, "b", version=again, reason="the prices were right")[0] == 0
    assert settle(wednesday)["verdict"] == "promoted"
    assert act("publish_champion", settings, "c")[0] == 0
    assert str(in_force(settings)).startswith("2026-01-30-v4-")


def test_a_bundle_taken_back_whose_version_is_gone_does_not_return_with_a_rerun(
    settings: PipelineSettings, published: list[str]
) -> None:
    wednesday = on_day(settings, 2)
    client(settings).delete_model_version(settings.registry.model_name, "3")
    assert act("rollback", settings, "a", reason="wrong prices")[0] == 0
    assert (in_force(settings), alias(settings)) == (published[1], "2")
    enter_with_bundle(wednesday, champion=0.2, seed=2)
    assert promote.run(wednesday)["verdict"] == "kept_champion"
    assert "taken back by ann" in verdict(wednesday)["reasons"][-1]


def test_a_rejection_holds_under_the_policy_auto_until_a_person_approves(settings: PipelineSettings, home: Path) -> None:
    reviewed = on_day(settings, 0, promotion="review")
    enter_with_bundle(reviewed)
    answer(reviewed, "rejected", by="bob", reason="odd")
    assert promote.run(reviewed)["verdict"] == "rejected_in_review"
    assert settle(settings)["verdict"] == "no_champion"  # the same version
    again = enter_with_bundle(settings, again=1)  # the same weights
    assert promote.run(settings)["verdict"] == "no_champion"
    assert "rejected by bob" in verdict(settings)["reasons"][-1] and "odd" in verdict(settings)["reasons"][-1]
    status, record = act("promote_version", settings, "a", version=again)
    assert (status, alias(settings)) == (65, None)
    assert "rejected by bob" in record["message"]
    judge.run(reviewed)
    assert verdict(reviewed)["verdict"] == "awaiting_review" and "rejected by bob" in verdict(reviewed)["reasons"][-1]
    answer(reviewed, "approved", by="eve", reason="I looked again")
    assert promote.run(reviewed)["verdict"] == "promoted"
    assert alias(settings) == again


def test_silence_is_no_rejection_by_a_person(settings: PipelineSettings, home: Path) -> None:
    reviewed = on_day(settings, 0, promotion="review")
    enter_with_bundle(reviewed)
    answer(reviewed, "rejected", by="", reason="", timed_out=True)
    promote.run(reviewed)
    enter_with_bundle(settings, again=1)
    assert promote.run(settings)["verdict"] == "promoted"


# The champion


def test_a_deleted_alias_leaves_the_champion_and_is_put_back(settings: PipelineSettings, published: list[str]) -> None:
    thursday = on_day(settings, 3)
    client(settings).delete_registered_model_alias(settings.registry.model_name, CHAMPION)
    assert str(incumbent_version(thursday).version) == "3"
    enter_with_bundle(thursday, recall=0.1, champion=0.2, seed=3)
    assert promote.run(thursday)["verdict"] == "kept_champion"
    assert verdict(thursday)["champion_version"] == "3"
    status, record = act("publish_champion", settings, "hourly")
    assert (status, alias(settings), in_force(settings)) == (65, "3", published[2])
    assert "no version carried the alias 'champion'" in record["message"] and "version 3 again" in record["message"]
    assert act("publish_champion", settings, "next")[0] == 0


def test_a_model_that_was_renamed_leaves_the_bundle_in_force_until_a_person_promotes(
    settings: PipelineSettings, published: list[str]
) -> None:
    name, thursday = settings.registry.model_name, on_day(settings, 3)
    client(settings).rename_registered_model(name, "another-name")
    assert act("publish_champion", settings, "hourly")[0] == 65
    number = enter_with_bundle(thursday, seed=3)
    assert (number, promote.run(thursday)["verdict"]) == ("1", "kept_champion")
    reasons = "; ".join(verdict(thursday)["reasons"])
    assert f"bundle {published[2]} is in force, but esans-retrieval has no such version" in reasons
    assert "there is no champion to compare with" not in reasons
    status, record = act("publish_champion", settings, "again")
    assert (status, alias(settings), in_force(settings)) == (65, None, published[2])
    assert "rename it back" in record["message"]
    assert act("promote_version", settings, "a", version=number, reason="a new name")[0] == 0
    assert act("publish_champion", settings, "b")[0] == 0
    assert str(in_force(settings)).startswith("2026-01-31-v1-")


def test_a_model_that_is_renamed_back_is_the_champion_again(settings: PipelineSettings, published: list[str]) -> None:
    name, registry = settings.registry.model_name, client(settings)
    registry.rename_registered_model(name, "another-name")
    prepare_day(on_day(settings, 3), seed=3)
    registry.rename_registered_model("another-name", name)
    assert str(incumbent_version(on_day(settings, 3)).version) == "3"
    act("publish_champion", settings, "hourly")
    assert alias(settings) == "3"


def test_a_version_that_was_deleted_and_registered_again_is_the_one_in_force(
    settings: PipelineSettings, published: list[str]
) -> None:
    client(settings).delete_model_version(settings.registry.model_name, "3")
    assert incumbent_version(on_day(settings, 3)) is None
    again = enter_with_bundle(on_day(settings, 2), champion=0.2, seed=2)
    assert str(incumbent_version(on_day(settings, 3)).version) == again == "4"
    assert numbered_version(settings, "3") is None


def test_what_make_run_published_does_not_bind_the_server_of_the_home_but_the_other_way_round(
    settings: PipelineSettings, home: Path
) -> None:
    bundle, store = publish_day(settings), ServingStore.of(settings)
    assert store.history()[-1]["registry"] == "sqlite"
    with pytest.MonkeyPatch.context() as patch:  # the registry of `make up`, which has other versions
        patch.setenv("ESANS_REGISTRY__TRACKING_URI", f"sqlite:///{home}/mlflow/server.db")
        patch.setattr(PipelineSettings, "registry_kind", property(lambda self: "http"))
        server = PipelineSettings(**settings.model_dump(exclude={"registry"}))
        assert act("publish_champion", server, "hourly")[1]["state"] == "success" and store.current() == bundle
        number = enter_with_bundle(server)
        assert promote.run(server)["verdict"] == "promoted"
        assert act("publish_champion", server, "first")[0] == 0
        assert alias(server) == number and [line["registry"] for line in store.history()] == ["sqlite", "http"]
        in_force_now = store.current()
    later = on_day(settings, 1)
    client(settings).delete_registered_model(settings.registry.model_name)
    enter_with_bundle(later, seed=5)
    assert promote.run(later)["verdict"] == "kept_champion" and store.current() == in_force_now
