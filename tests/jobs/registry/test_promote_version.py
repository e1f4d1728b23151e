from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.registry import judge, promote
from jobs.registry.versions import incumbent_version, numbered_version
from tests.jobs.registry.test_registry import alias, enter, on_day, prepare_day, settle, verdict
from tests.jobs.registry.test_review_answer import answer
from tests.jobs.serving_days import act

pytestmark = pytest.mark.mlflow


def entered(settings: PipelineSettings, **changes: object) -> str:
    prepare_day(settings, **changes)
    number = enter(settings)
    judge.run(settings)
    return number


def tags(settings: PipelineSettings, number: str) -> dict[str, str]:
    version = numbered_version(settings, number)
    assert version is not None
    return version.tags


def test_a_version_that_passed_is_promoted_by_hand_once(settings: PipelineSettings, home: Path) -> None:
    held = on_day(settings, 0, promotion="never")
    number = entered(held)
    assert promote.run(held)["verdict"] == "not_promoted_by_policy"
    status, record = act("promote_version", held, "manual__2026-01-29T08:00:00+00:00", version=number)
    assert (status, record["state"], record["summary"]["changed"]) == (0, "success", True)
    assert record["message"] == "version 1 (2026-01-28) is the champion now (before: none)."
    assert alias(held) == number
    stored = tags(held, number)
    assert (stored["esans.promoted_by"], stored["esans.promotion_reason"]) == ("ann", "because")
    status, record = act("promote_version", held, "again", version=number, by="bob", reason="again")
    assert (status, record["summary"]["changed"]) == (0, False)
    assert tags(held, number) == stored
    assert settle(held)["verdict"] == "promoted"  # of its date's rerun, which moves nothing
    assert tags(held, number)["esans.promoted_by"] == "ann"


def test_what_the_gate_does_not_allow_is_refused(settings: PipelineSettings, home: Path) -> None:
    number = entered(settings, recall=0.001)
    status, record = act("promote_version", settings, "a", version=number)
    assert (status, record["state"]) == (65, "failed")
    assert "did not pass the gate" in record["message"] and "recall_50 is 0.0010" in record["message"]
    assert "Remedy:" in record["message"]
    for other in ("7", "0", "1; drop", "../1"):
        status, record = act("promote_version", settings, "a", version=other)
        assert status == 65
        assert "there is no version" in record["message"]
    prepare_day(settings, seed=1)
    status, record = act("promote_version", settings, "a", version=enter(settings))
    assert status == 65
    assert "has no gate report" in record["message"]
    assert alias(settings) is None


def test_an_older_version_stays_in_force_when_the_newer_ones_date_runs_again(settings: PipelineSettings, home: Path) -> None:
    monday, tuesday, wednesday = (on_day(settings, day) for day in range(3))
    one = entered(monday)
    promote.run(monday)
    two = entered(tuesday, champion=0.2)
    promote.run(tuesday)
    three = entered(wednesday, champion=0.2)
    promote.run(wednesday)
    status, record = act("promote_version", settings, "back", version=one)
    assert status == 0
    assert "It is older than the champion before (2026-01-30)" in record["message"]
    assert alias(monday) == one
    assert incumbent_version(monday) is None
    assert str(incumbent_version(on_day(settings, 3)).version) == one
    for day, number in ((tuesday, two), (wednesday, three)):
        assert tags(day, number)["esans.withdrawn_by"] == "ann"
        prepare_day(day, champion=0.2)
        assert settle(day)["verdict"] == "kept_champion"
        assert "taken back by ann" in verdict(day)["reasons"][-1]
        assert alias(day) == one
    assert act("promote_version", settings, "forth", version=three)[0] == 0
    assert alias(settings) == three
    assert "esans.withdrawn_by" not in tags(wednesday, three)
    assert "esans.withdrawn_by" in tags(tuesday, two)
    assert str(incumbent_version(wednesday).version) == one  # the champion it was compared with last


def test_under_the_policy_review_a_promotion_by_hand_approves_but_overrules_nobody(
    settings: PipelineSettings, home: Path
) -> None:
    reviewed = on_day(settings, 0, promotion="review")
    number = entered(reviewed)
    answer(reviewed, "rejected", by="bob", reason="odd")
    promote.run(reviewed)
    status, record = act("promote_version", reviewed, "a", version=number)
    assert status == 65
    assert "was rejected by bob (odd)" in record["message"]
    answer(reviewed, "rejected", by="", reason="", timed_out=True)  # asked again, and nobody answers
    promote.run(reviewed)
    status, record = act("promote_version", reviewed, "a", version=number)
    assert (status, alias(reviewed)) == (65, None)
    assert "rejected by bob" in record["message"]


def test_under_the_policy_review_a_promotion_by_hand_is_an_answer_where_nobody_gave_one(
    settings: PipelineSettings, home: Path
) -> None:
    reviewed = on_day(settings, 0, promotion="review")
    number = entered(reviewed)
    answer(reviewed, "rejected", by="", reason="", timed_out=True)
    promote.run(reviewed)
    assert act("promote_version", reviewed, "a", version=number)[0] == 0
    assert alias(reviewed) == number
    assert tags(reviewed, number)["esans.reviewed_by"] == "ann"
    assert promote.run(reviewed)["verdict"] == "promoted"
    assert verdict(reviewed)["reasons"][-1] == "approved by ann (because)"


@pytest.mark.parametrize(
    "options",
    [
        {"reason": "  "},
        {"by": ""},
        {"reason": "x" * 2001},
        {"action": ".."},
        {"action": "a/b"},
        {"action": ""},
        {"force": "yes"},
    ],
)
def test_a_command_line_that_cannot_be_used_is_refused(settings: PipelineSettings, home: Path, options: dict) -> None:
    number = entered(settings)
    before = {path for path in home.rglob("*") if path.name.startswith("promote_version")}
    status, record = act("promote_version", settings, **{"action": "a", "version": number} | options)
    assert (status, record) == (65, {})
    assert {path for path in home.rglob("*") if path.name.startswith("promote_version")} == before
    assert alias(settings) is None


def test_a_registry_out_of_reach_is_no_refusal(settings: PipelineSettings, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESANS_REGISTRY__TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    status, record = act("promote_version", settings, "a", version="1")
    assert (status, record["state"]) == (1, "failed")
    assert client(settings).get_experiment_by_name(settings.registry.experiment) is not None
