"""The verdict as a table: facts in, decision and first reason out."""

from dataclasses import replace

import pytest

from jobs.base.cutoffs import Cutoffs
from jobs.base.settings import GateSettings
from jobs.registry.promotion import Difference, RelativeChange
from jobs.registry.verdict import Comparison, Facts, Verdict, decide
from tests.jobs.records import metrics

GOOD = metrics()
WORSE, EVEN, BETTER = (
    Difference(-0.01, -0.015, -0.005, 0.95),
    Difference(0, -0.01, 0.01, 0.95),
    Difference(0.1, 0.09, 0.11, 0.95),
)


def against(low: float, high: float, role: str = "champion", look: int = 1) -> Comparison:
    name = {"champion": "champion version 3", "anchor": "the best version ever in force, version 1,"}.get(role, "the baseline")
    middle = (low + high) / 2
    return Comparison(role, name, RelativeChange(middle, low, high, 0.025, (high - low) / 4, 4000), look)


def verdict(facts: Facts, **gate: object) -> Verdict:
    return decide(facts, GateSettings(**gate), embedding_dim=16)


FIRST = Facts(GOOD, baseline=BETTER)
NEXT = replace(FIRST, comparisons=[against(-0.005, 0.03)])
LOST, UNKNOWN = against(-0.08, -0.04), against(-0.03, 0.04)
OLD = "the best version ever in force, version 1, cannot be ranked any more (its files are gone)"


@pytest.mark.parametrize(
    ("facts", "gate", "passed", "first"),
    [
        # Nobody to compare with.
        (FIRST, {}, True, "all 7 absolute floors are met; there is no champion"),
        (replace(FIRST, baseline=None), {}, True, "all 7 absolute floors"),
        # The margin is a share of the champion, at the lower end of the interval.
        (NEXT, {}, True, "recall_50 differs by +1.2% from champion version 3 [-0.5%, +3.0%], which rules out"),
        (replace(NEXT, comparisons=[against(-0.01, 0.01)]), {}, True, "recall_50 differs by +0.0%"),
        (replace(NEXT, comparisons=[against(-0.0101, 0.01)]), {}, False, "4,000 hold-out users are too few"),
        (replace(NEXT, comparisons=[UNKNOWN]), {}, False, "about "),
        (replace(NEXT, comparisons=[UNKNOWN]), {"max_relative_loss": 0.03}, True, "rules out a loss of more than 3.0%"),
        (replace(NEXT, comparisons=[LOST]), {}, False, "it loses more than the 1.0% that may be lost"),
        (replace(NEXT, comparisons=[against(0.02, 0.06)]), {"max_relative_loss": 0.0}, True, "+4.0%"),
        # The anchor counts as much as the champion.
        (replace(NEXT, comparisons=[*NEXT.comparisons, against(-0.005, 0.02, "anchor")]), {}, True, "and +0.8%"),
        (replace(NEXT, comparisons=[*NEXT.comparisons, against(-0.06, -0.02, "anchor")]), {}, False, "the best version ever"),
        (replace(NEXT, comparisons=[*NEXT.comparisons, against(-0.03, 0.02, "anchor")]), {}, False, "the best version ever"),
        (replace(NEXT, comparisons=[UNKNOWN, against(-0.06, -0.02, "anchor")]), {}, False, "it loses more than"),
        # Below the baseline of the same night.
        (replace(FIRST, baseline=WORSE), {}, False, "below the uniform-negatives baseline of the same night by 0.0100"),
        (replace(FIRST, baseline=EVEN), {}, True, "all 7 absolute floors"),
        (replace(FIRST, baseline=Difference(-0.01, -0.03, 0.01, 0.95)), {}, True, "0.0100 lower than that of the uniform"),
        (replace(NEXT, baseline=WORSE), {}, False, "below the uniform-negatives baseline"),
        (replace(NEXT, baseline=WORSE), {"allow_below_baseline": True}, True, "allow_below_baseline lets it pass"),
        # What matters most comes first.
        (replace(NEXT, baseline=WORSE, blockers=["gate raw failed"]), {}, False, "gate raw failed"),
        (replace(NEXT, baseline=WORSE, comparisons=[LOST]), {}, False, "below the uniform-negatives baseline"),
        (replace(NEXT, comparisons=[LOST], metrics=metrics(recall_50=0.001)), {}, False, "it loses more than"),
        (replace(NEXT, comparisons=[UNKNOWN], metrics=metrics(recall_50=0.001)), {}, False, "recall_50 is 0.0010"),
        # What decides nothing and is bad news all the same.
        (replace(NEXT, against_champion={"new_item_recall_50": WORSE}), {}, True, "Recall@50, new items is below the"),
        (replace(NEXT, against_champion={"ndcg_50": WORSE, "head_recall_50": EVEN}), {}, True, "NDCG@50 is below the"),
        (replace(NEXT, concerns=[OLD]), {}, True, OLD),
        (replace(NEXT, concerns=[OLD], comparisons=[LOST]), {}, False, "it loses more than"),
        # Floors and health.
        (replace(FIRST, metrics=metrics(recall_50=0.001)), {}, False, "recall_50 is 0.0010, but the bound is 0.0200"),
        (replace(FIRST, metrics=metrics(recall_50=float("nan"))), {}, False, "recall_50 could not be measured"),
        (replace(FIRST, metrics=metrics(head_recall_50=0.001)), {}, False, "head_recall_50"),
        (replace(FIRST, metrics=metrics(tail_recall_50=0.01)), {"min_tail_recall": 0.05}, False, "tail_recall_50 is"),
        (replace(FIRST, metrics=metrics(tail_recall_50=None)), {"min_tail_recall": 0.05}, False, "tail_recall_50 could not"),
        (replace(FIRST, metrics=metrics(tail_recall_50=None)), {}, True, "all 7 absolute floors"),
        (replace(FIRST, metrics=metrics(coverage_50=0.01)), {}, False, "coverage_50"),
        (replace(FIRST, metrics=metrics(finite=False)), {}, False, "item embeddings are not all finite"),
        (replace(FIRST, metrics=metrics(embedding_std=0.001)), {}, False, "embedding_spread"),
        (replace(FIRST, metrics=metrics(embedding_norm_mean=2.0)), {}, False, "2.0000, but it must lie between 0.99 and 1.01"),
    ],
)  # fmt: skip
def test_decision_and_first_reason(facts: Facts, gate: dict, passed: bool, first: str) -> None:
    found = verdict(facts, **gate)
    assert found.passed is passed
    assert first in found.reasons[0]
    assert found.because in found.reasons
    assert passed is (all(check.passed for check in found.checks) and not facts.blockers)


def test_a_verdict_that_passes_ends_with_why_and_one_that_does_not_says_nothing_good() -> None:
    facts = replace(NEXT, concerns=[OLD], against_champion={"ndcg_50": WORSE}, remarks=["mind the depth"])
    found = verdict(facts)
    assert [reason.split()[0] for reason in found.reasons] == ["NDCG@50", "the", "recall_50", "mind"]
    assert found.concerns == found.reasons[:2]
    assert found.because == found.reasons[2]
    failed = verdict(replace(facts, comparisons=[LOST]))
    assert not any("rules out" in reason or "floors are met" in reason for reason in failed.reasons)
    assert failed.because == failed.reasons[0]


def test_new_items_come_before_the_other_metrics_that_fell() -> None:
    fallen = dict.fromkeys(("recall_50", "recall_200", "ndcg_50", "head_recall_50", "new_item_recall_50"), WORSE)
    reasons = verdict(replace(NEXT, against_champion=fallen)).reasons
    assert [reason.split(" is below")[0] for reason in reasons[:-1]] == [
        "Recall@50, new items", "Recall@50, head items", "Recall@200", "NDCG@50"
    ]  # fmt: skip


def test_too_few_users_are_told_how_many_it_takes_and_at_which_look() -> None:
    (reason, *_) = verdict(replace(NEXT, comparisons=[against(-0.03, 0.04, look=2)])).reasons
    # Standard error 1.75 % with 4,000 users; a margin of 1 % at level .025 needs 1 / 2.80 % of it.
    assert (
        "4,000 hold-out users are too few to rule out a loss of more than 1.0% at look 2; "
        "about 96,000 users would be enough" in reason
    )
    (reason, *_) = verdict(replace(NEXT, comparisons=[UNKNOWN]), max_relative_loss=0.0).reasons
    assert "users would be enough" not in reason


def test_small_catalogues_are_judged_at_their_own_depth() -> None:
    small = {name.replace("_50", "_6"): value for name, value in GOOD.items()}
    found = verdict(Facts(small, Cutoffs((6,)), comparisons=[against(-0.005, 0.03)], baseline=BETTER))
    assert found.passed
    assert not any("50" in text for text in (*found.reasons, *(check.name for check in found.checks)))
    assert not verdict(Facts(GOOD, Cutoffs((6,)))).passed, "metrics at another depth are none of this one"


def test_the_verdict_as_json_is_plain() -> None:
    found = verdict(replace(NEXT, baseline=BETTER)).as_json()
    assert found["passed"] is True and isinstance(found["reasons"], list)
    assert found["comparisons"][0]["change"]["users"] == 4000 and found["comparisons"][0]["role"] == "champion"
    assert [check["name"] for check in found["checks"]][-2:] == [
        "recall_50 relative to champion version 3, lower end of the interval",
        "recall_50 against the baseline, upper end of the interval",
    ]
