import json
from pathlib import Path

import pytest

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.ranking.candidates import model_in_force
from jobs.registry import judge, promote
from jobs.registry.gate_report import check_gate_report
from jobs.registry.versions import CHAMPION, numbered_version
from tests.jobs.registry.test_registry import alias, enter, on_day, prepare_day, settle, verdict

pytestmark = pytest.mark.mlflow


def answer(
    settings: PipelineSettings, decision: str, *, by: str = "ann", reason: str = "seen", timed_out: bool = False
) -> None:
    said = {"decision": decision, "by": by, "at": "2026-01-29T08:00:00+00:00", "reason": reason, "timed_out": timed_out}
    (settings.run_dir / "review.json").write_text(json.dumps(said))


@pytest.fixture
def asked(settings: PipelineSettings, home: Path) -> PipelineSettings:
    """A day under the policy `review` whose challenger, version 1, passed."""
    settings = on_day(settings, 0, promotion="review")
    prepare_day(settings)
    enter(settings)
    said = judge.run(settings)
    assert (said["verdict"], said["needs_review"]) == ("awaiting_review", True)
    assert alias(settings) is None
    with pytest.raises(DataError, match="run promote"):
        model_in_force(settings)
    return settings


def tags(settings: PipelineSettings, number: str = "1") -> dict[str, str]:
    version = numbered_version(settings, number)
    assert version is not None
    return version.tags


def test_an_approval_promotes_and_says_who_when_and_why(asked: PipelineSettings) -> None:
    answer(asked, "approved", reason="recall is up")
    assert promote.run(asked)["verdict"] == "promoted"
    said, stored = verdict(asked), tags(asked)
    assert alias(asked) == "1"
    assert (said["needs_review"], said["promoted_by"], said["reviewed_by"]) == (False, "ann", "ann")
    assert said["reasons"][-1] == "approved by ann (recall is up)"
    assert stored["esans.reviewed_at"] == "2026-01-29T08:00:00+00:00"
    assert (stored["esans.review_decision"], stored["esans.promotion_reason"]) == ("approved", "recall is up")
    assert (stored["esans.verdict"], stored["validation_status"]) == ("promoted", "passed")
    assert model_in_force(asked) == "1"
    check_gate_report(asked, numbered_version(asked, "1"))

    promote.run(asked)
    assert (verdict(asked), tags(asked)) == (said, stored)
    again = judge.run(asked)  # what is champion need not be asked about again
    assert (again["verdict"], again["needs_review"]) == ("promoted", False)
    assert not (asked.run_dir / "review.json").exists()
    assert promote.run(asked)["verdict"] == "promoted"
    assert verdict(asked)["reasons"] == said["reasons"]
    assert tags(asked) == stored


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"decision": "rejected", "reason": "odd neighbours"}, "rejected by ann (odd neighbours)"),
        ({"decision": "rejected", "by": "", "reason": "", "timed_out": True}, "nobody decided in time, so it is rejected"),
        (None, "nobody has decided on the review"),
    ],
)
def test_what_is_not_approved_is_not_promoted(asked: PipelineSettings, given: dict | None, reason: str) -> None:
    if given:
        answer(asked, **given)
    for _ in range(2):
        assert promote.run(asked)["verdict"] == "rejected_in_review"
        assert (verdict(asked)["needs_review"], verdict(asked)["reasons"][-1]) == (True, reason)
        assert alias(asked) is None
        assert model_in_force(asked) is None
    assert tags(asked).get("esans.review_decision") == (given and "rejected")
    with pytest.raises(DataError, match="policy 'review' asks for an approval too"):
        check_gate_report(asked, numbered_version(asked, "1"))
    # Asked again, somebody may say yes.
    answer(asked, "approved", by="bob")
    assert promote.run(asked)["verdict"] == "promoted"
    assert tags(asked)["esans.reviewed_by"] == "bob"


def test_an_answer_counts_for_the_question_it_was_given_to(asked: PipelineSettings) -> None:
    answer(asked, "approved")
    assert judge.run(asked)["verdict"] == "awaiting_review"
    assert promote.run(asked)["verdict"] == "rejected_in_review"
    prepare_day(asked, seed=1)
    enter(asked)
    answer(asked, "approved")
    with pytest.raises(DataError, match="the verdict is about version 1 .* now it would be version 2"):
        promote.run(asked)


def test_an_approval_cannot_be_forged_in_mlflow(asked: PipelineSettings) -> None:
    answer(asked, "rejected")
    promote.run(asked)
    version = numbered_version(asked, "1")
    folder = Path(client(asked).get_run(version.run_id).info.artifact_uri.removeprefix("file://")) / "gate_report"
    (path,) = folder.glob("*.decision.json")
    path.write_text(path.read_text().replace("rejected", "approved"))
    client(asked).set_registered_model_alias(version.name, CHAMPION, "1")
    with pytest.raises(DataError, match="signature of the review is wrong"):
        check_gate_report(asked, version)


def test_an_approval_of_another_model_is_none_of_this_one(asked: PipelineSettings) -> None:
    answer(asked, "approved")
    promote.run(asked)
    one = numbered_version(asked, "1")
    prepare_day(asked, seed=1, recall=0.3)
    two = numbered_version(asked, enter(asked))
    judge.run(asked)
    folders = [
        Path(client(asked).get_run(version.run_id).info.artifact_uri.removeprefix("file://")) / "gate_report"
        for version in (one, two)
    ]
    (approval,) = folders[0].glob("*.decision.json")
    target = folders[1] / f"{two.tags['esans.run_key']}.decision.json"
    target.write_bytes(approval.read_bytes())
    with pytest.raises(DataError, match="nobody has decided yet"):
        check_gate_report(asked, two)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"decision": "approved"}', '{"decision": "yes", "by": "a", "at": "2026-01-29T08:00:00Z", "reason": ""}']
)
def test_an_answer_that_cannot_be_read_is_refused(asked: PipelineSettings, text: str) -> None:
    (asked.run_dir / "review.json").write_text(text)
    with pytest.raises(DataError, match="cannot be read as a decision"):
        promote.run(asked)
    answer(asked, "approved", by="  ")
    with pytest.raises(DataError, match="an approval needs the name"):
        promote.run(asked)
    assert alias(asked) is None


def test_what_did_not_pass_is_not_asked_about(settings: PipelineSettings, home: Path) -> None:
    reviewed = on_day(settings, 0, promotion="review")
    prepare_day(reviewed, recall=0.001)
    enter(reviewed)
    assert judge.run(reviewed)["needs_review"] is False
    answer(reviewed, "approved")
    assert promote.run(reviewed)["verdict"] == "no_champion"
    assert alias(reviewed) is None


def test_a_champion_that_came_while_the_review_waited(asked: PipelineSettings) -> None:
    tomorrow = on_day(asked, 1, promotion="auto")
    prepare_day(tomorrow)
    enter(tomorrow)
    assert settle(tomorrow)["verdict"] == "promoted"
    answer(asked, "approved")
    assert promote.run(asked)["verdict"] == "champion_is_newer"
    assert alias(asked) == "2"


def test_promotion_needs_a_verdict(settings: PipelineSettings, home: Path) -> None:
    with pytest.raises(DataError, match="run judge"):
        promote.run(settings)
