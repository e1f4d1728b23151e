"""What people decide about versions: a review that is answered, one that nobody answers, and a promotion by hand."""

from typing import Any

import pytest

from infra.local.environment import USER
from tests.operations.live_day import MODEL, NEXT_DAY, Live
from tests.whole_stack import DAY, FinishedDay, Kept, reused

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.mlflow, pytest.mark.browser, pytest.mark.slow]


def test_what_make_run_has_made_is_taken_over(live: Live, finished_day: FinishedDay, approved: dict[str, Any]) -> None:
    """The same day again: `make run` made it in this home before. Only what depends on the registry is made anew."""
    views = {"text_features", "behaviour_features", "gate_features"}
    clusters = {"fit_codebooks", "assign_clusters", "gate_clusters"}
    assert {"gate_raw", "ingest", *views, *clusters, "build_training_set", "gate_training_set"} <= reused(live.run_dir(DAY))
    now, before = live.kept().tables, finished_day.kept.tables
    data = {name for name in before if name.split("/")[0] not in ("challenger", "baseline", "evaluation", "candidates")}
    assert len(data) > 10 and {name: now[name] for name in data} == {name: before[name] for name in data}


def test_a_person_approves_and_the_registry_says_so(live: Live, approved: dict[str, Any]) -> None:
    assert approved["verdict"] == "promoted"
    review = live.read(DAY, "review.json")
    assert (review["decision"], review["by"], review["reason"]) == ("approved", USER, "Looks right to me.")
    assert live.champion() == approved["version"]
    tags = live.registry.get_model_version(MODEL, approved["version"]).tags
    assert tags["esans.reviewed_by"] == USER


def test_silence_rejects(live: Live, unanswered: dict[str, Any]) -> None:
    assert unanswered["verdict"] == "rejected_in_review" and unanswered["passed"]
    review = live.read(NEXT_DAY, "review.json")
    assert (review["decision"], review["by"], review["timed_out"]) == ("rejected", "", True)
    assert "nobody answered in time" in live.registry.get_model_version(MODEL, "2").tags["esans.review_reason"]


def test_a_person_promotes_the_next_day_by_hand(
    live: Live, published: str, first_kept: Kept, unanswered: dict[str, Any], second: str
) -> None:
    assert unanswered["incumbent_version"] == "1" and live.champion() == unanswered["version"] == "2"
    tags = live.registry.get_model_version(MODEL, "2").tags
    assert (tags["esans.promoted_by"], tags["esans.promotion_reason"]) == (USER, "I was on the train.")
    assert live.read(NEXT_DAY, "metrics.json")["models"]["champion"] is not None
    assert {published, second} <= set(live.store.names())
    tables = live.kept().tables
    assert {name: digest for name, digest in tables.items() if name.endswith(str(DAY))} == first_kept.tables
