import numpy as np
import pytest

from jobs.registry.promotion import Difference, judge, paired_bootstrap
from jobs.settings import GateSettings

GOOD = {
    "recall_50": 0.2,
    "head_recall_50": 0.2,
    "tail_recall_50": 0.1,
    "coverage_50": 0.5,
    "finite": True,
    "embedding_std": 0.2,
    "embedding_norm_mean": 1.0,
}


def test_bootstrap_equals_one_resample_at_a_time() -> None:
    rng = np.random.default_rng(0)
    challenger, other = rng.random(37), rng.random(37)
    found = paired_bootstrap(challenger, other, samples=101, confidence=0.9, seed=5, block=7)
    generator = np.random.default_rng(5)
    means = []
    for _ in range(101):
        users = generator.integers(0, 37, size=37)
        means.append(sum(challenger[user] - other[user] for user in users) / 37)
    means.sort()
    assert found.mean == pytest.approx(challenger.mean() - other.mean())
    assert found.low == pytest.approx(np.quantile(means, 0.05))
    assert found.high == pytest.approx(np.quantile(means, 0.95))


def test_bootstrap_does_not_depend_on_the_block_and_depends_on_the_seed() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.random(50), rng.random(50)
    blocks = {paired_bootstrap(a, b, samples=200, confidence=0.95, seed=3, block=block) for block in (1, 64, 200, 999)}
    assert len(blocks) == 1
    assert paired_bootstrap(a, b, samples=200, confidence=0.95, seed=4) not in blocks


def test_bootstrap_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for trial in range(300):
        gap = rng.normal(0.05, 0.3, size=200)
        found = paired_bootstrap(gap, np.zeros(200), samples=300, confidence=0.9, seed=trial)
        covered += found.low <= 0.05 <= found.high
    # 270 expected; 300 trials at 0.9 have a standard deviation of 5.2
    assert 250 <= covered <= 290


def test_pairing_narrows_the_interval() -> None:
    rng = np.random.default_rng(3)
    other = rng.random(400)
    challenger = other + 0.01
    paired = paired_bootstrap(challenger, other, samples=200, confidence=0.95, seed=0)
    assert paired.high - paired.low < 1e-12
    shuffled = paired_bootstrap(rng.permutation(challenger), other, samples=200, confidence=0.95, seed=0)
    assert shuffled.high - shuffled.low > 0.03


@pytest.mark.parametrize(("challenger", "other"), [([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [0.0]), ([[1.0]], [[1.0]])])
def test_bootstrap_refuses_what_cannot_be_compared(challenger: list, other: list) -> None:
    with pytest.raises(ValueError, match="expected two equal|not finite"):
        paired_bootstrap(np.array(challenger, dtype=float), np.array(other, dtype=float), samples=100, confidence=0.9, seed=0)


def test_the_first_model_needs_the_floors_alone() -> None:
    verdict = judge(GOOD, GateSettings(), embedding_dim=16, difference=None, opponent="none")
    assert verdict.passed
    assert "there is no champion" in verdict.reasons[0]
    assert verdict.as_json()["difference"] is None
    assert all(check["passed"] for check in verdict.as_json()["checks"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"recall_50": 0.001}, "recall_50 is 0.0010, the bound is 0.0200"),
        ({"recall_50": float("nan")}, "recall_50 could not be measured"),
        ({"head_recall_50": 0.001}, "head_recall_50"),
        ({"tail_recall_50": 0.01}, "tail_recall_50"),
        ({"tail_recall_50": None}, "tail_recall_50 could not be measured"),
        ({"coverage_50": 0.01}, "coverage_50"),
        ({"finite": False}, "not all finite"),
        ({"embedding_std": 0.001}, "embedding_spread"),
        ({"embedding_norm_mean": 2.0}, "embedding_norm"),
    ],
)
def test_each_floor_alone_keeps_a_model_back(changes: dict, reason: str) -> None:
    gate = GateSettings(min_tail_recall=0.05)
    verdict = judge(GOOD | changes, gate, embedding_dim=16, difference=None, opponent="none")
    assert not verdict.passed
    assert len(verdict.reasons) == 1
    assert reason in verdict.reasons[0]
    assert sum(not check.passed for check in verdict.checks) == 1


@pytest.mark.parametrize(("low", "passed"), [(-0.02, False), (-0.0101, False), (-0.01, True), (0.005, True)])
def test_the_lower_end_of_the_interval_decides(low: float, passed: bool) -> None:
    difference = Difference(0.02, low, 0.05, 0.95)
    verdict = judge(GOOD, GateSettings(), embedding_dim=16, difference=difference, opponent="champion version 3")
    assert verdict.passed is passed
    assert "champion version 3" in verdict.reasons[0]


def test_a_blocker_rules_out_the_best_model() -> None:
    verdict = judge(GOOD, GateSettings(), embedding_dim=16, difference=None, opponent="none", blockers=["gate raw failed"])
    assert not verdict.passed
    assert verdict.reasons == ("gate raw failed",)
