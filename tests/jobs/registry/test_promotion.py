"""The statistics of promotion, against simulations with a known truth."""

import doctest

import numpy as np
import pytest
from scipy import stats

from jobs.registry import promotion
from jobs.registry.promotion import level_of_look, relative_change, users_needed


def test_the_examples_are_true() -> None:
    assert doctest.testmod(promotion).failed == 0


def most(trials: int, rate: float) -> int:
    """A count that a rate exceeds once in a thousand such tests."""
    return int(stats.binom.ppf(0.999, trials, rate))


def recalls(random: np.random.Generator, users: int, change: float) -> tuple[np.ndarray, np.ndarray]:
    """Recall of each user for two models. In truth the first reaches `1 + change` times the second; many users have 0."""
    relevant = random.integers(1, 6, users)
    easy = random.beta(0.5, 1.5, users)  # what the models have in common
    return (
        random.binomial(relevant, easy * (1 + change)) / relevant,
        random.binomial(relevant, easy) / relevant,
    )


def test_a_change_is_a_share_of_the_opponent() -> None:
    other = np.array([0.1, 0.2, 0.3, 0.4])
    found = relative_change(1.5 * other, other, level=0.025)
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    # One and the same model, whatever the scale of its recall: no change, and no doubt about it.
    same = relative_change(other / 1000, other / 1000, level=1e-6)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_the_bounds_are_those_of_the_linearised_test() -> None:
    """With the ratio put in, the interval is Student's of `challenger - ratio x other`, over the opponent's mean."""
    challenger, other = recalls(np.random.default_rng(0), 300, -0.05)
    found = relative_change(challenger, other, level=0.025)
    gap = challenger - (1 + found.mean) * other
    low, high = stats.t.interval(0.95, len(gap) - 1, 0, stats.sem(gap))
    assert found.low == pytest.approx(found.mean + low / other.mean())
    assert found.high == pytest.approx(found.mean + high / other.mean())


@pytest.mark.parametrize("level", [0.025, 0.0083, 0.0005])
def test_a_loss_at_the_margin_passes_no_oftener_than_the_level(level: float) -> None:
    """The truth is a loss of exactly the margin: the lower bound lies above it as often as the level says."""
    random, margin, trials = np.random.default_rng(1), 0.02, 4000
    passed = 0
    for _ in range(trials):
        challenger, other = recalls(random, 200, -margin)
        passed += relative_change(challenger, other, level=level).low >= -margin
    # The normal theory is not exact with 200 users of skewed recall: a fifth more than the level is allowed for.
    assert passed <= most(trials, 1.2 * level)


def test_looks_share_the_error_rate() -> None:
    levels = [level_of_look(look, 0.05) for look in range(1, 10_000)]
    assert levels[0] == pytest.approx(0.025)
    assert 0.0499 < sum(levels) < 0.05
    assert levels == sorted(levels, reverse=True)
    with pytest.raises(ValueError, match="counted from 1"):
        level_of_look(0, 0.05)


def test_the_users_it_takes_let_four_in_five_equal_models_pass() -> None:
    random, margin = np.random.default_rng(2), 0.05
    challenger, other = recalls(random, 5000, 0.0)
    users = users_needed(relative_change(challenger, other, level=0.025), margin)
    assert users is not None
    passed = sum(relative_change(*recalls(random, users, 0.0), level=0.025).low >= -margin for _ in range(1000))
    # 800 expected; the users themselves come from one sample of 5,000, so the power is known to a few per cent only.
    assert 740 < passed < 860
    assert users_needed(relative_change(challenger, other, level=0.025), 0.0) is None


def test_what_cannot_be_lost_or_told() -> None:
    nothing = relative_change(np.array([0.1, 0.0]), np.zeros(2), level=0.025)
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)
    one = relative_change(np.array([0.5]), np.array([0.5]), level=0.025)
    assert (one.low, one.high) == (-1, 1)
    wild = relative_change(np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0]), level=1e-6)
    assert wild.low == -1, "no more than all can be lost"


@pytest.mark.parametrize(("challenger", "other"), [([], []), ([1.0], [1.0, 2.0]), ([float("nan")], [0.0]), ([[1.0]], [[1.0]])])
def test_what_cannot_be_compared_is_refused(challenger: list, other: list) -> None:
    with pytest.raises(ValueError, match="expected two equal|not finite"):
        relative_change(np.array(challenger, dtype=float), np.array(other, dtype=float), level=0.025)
