"""The statistics of promotion: how much a challenger gains or loses, how sure that is, and what repeated looks cost.

These are pure functions of numbers. Nothing here reads MLflow or files.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

_POWER = 0.8  # chance to pass that `users_needed` plans for


@dataclass(frozen=True)
class Difference:
    """Mean of challenger minus other over the same users, with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class RelativeChange:
    """What a challenger gains or loses, as a share of what the opponent reaches on the same users.

    Attributes:
        mean: mean of the challenger over mean of the opponent, minus 1; -0.02 is a loss of 2 %.
        low: lower bound. The truth lies below it with probability `level`. It is at least -1, because no more can be lost.
        high: upper bound, likewise.
        level: chance of error on either side.
        error: standard error of `mean`.
        users: number of users.
    """

    mean: float
    low: float
    high: float
    level: float
    error: float
    users: int


def relative_change(challenger: NDArray[np.float64], other: NDArray[np.float64], *, level: float) -> RelativeChange:
    """Change of a mean relative to the opponent's, over pairs of the same users, with Student's bounds.

    The standard error of a ratio of means is that of the mean of `challenger - (1 + change) * other`, over the opponent's mean
    (the delta method: Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, section 3). The
    bounds come from the normal theory and not from a bootstrap, because the levels of later looks are too small for some
    thousand resamples.

    Args:
        challenger: float64 [U], a metric per user.
        other: float64 [U], the same metric of another model for the same users in the same order.
        level: chance of error on either side, between 0 and 0.5.

    Returns:
        The change. If the opponent finds nothing, nothing can be lost, and all numbers are 0. One user alone tells nothing, so
        the bounds are -1 and 1.

    Raises:
        ValueError: the arrays are empty, of different length, or not finite.
    """
    if challenger.shape != other.shape or challenger.ndim != 1 or not len(challenger):
        raise ValueError(f"expected two equal, non-empty vectors, got shapes {challenger.shape} and {other.shape}")
    if not (np.isfinite(challenger).all() and np.isfinite(other).all()):
        raise ValueError("some users have a metric that is not finite")
    users, level_of_other = len(other), float(other.mean())
    if level_of_other == 0:
        return RelativeChange(0.0, 0.0, 0.0, level, 0.0, users)
    ratio = float(challenger.mean()) / level_of_other
    if users == 1:
        return RelativeChange(ratio - 1, -1.0, max(1.0, ratio - 1), level, 1.0, users)
    error = float((challenger - ratio * other).std(ddof=1)) / math.sqrt(users) / level_of_other
    reach = float(stdtrit(users - 1, 1 - level)) * error
    return RelativeChange(ratio - 1, max(ratio - 1 - reach, -1.0), ratio - 1 + reach, level, error, users)


def level_of_look(look: int, error_rate: float) -> float:
    """The part of the error rate that one look may use, so that all looks together keep to the rate.

    The n-th look uses 1 / (n (n + 1)) of the rate: a half, a sixth, a twelfth and so on. The sum is less than the rate, however
    many looks there are. So the chance that any of them passes a model that should not pass is at most the rate (the union
    bound). The count starts anew with every promotion. This is the rule LORD 1 of Javanmard and Montanari ("Online rules for
    control of false discovery rate and false discovery exceedance", Annals of Statistics 46(2), 2018), with these weights.

    >>> [round(level_of_look(look, 0.05), 4) for look in (1, 2, 3, 30)]
    [0.025, 0.0083, 0.0042, 0.0001]
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, got {look}")
    return error_rate / (look * (look + 1))


def users_needed(change: RelativeChange, margin: float) -> int | None:
    """Number of hold-out users at which an equally good model would pass this look four times in five; None at a margin of 0.

    This is a normal approximation: the standard error shrinks with the root of the number of users.

    Args:
        change: the change that a comparison at this look found.
        margin: relative loss that has to be ruled out.
    """
    if margin <= 0:
        return None
    wanted = margin / float(ndtri(1 - change.level) + ndtri(_POWER))
    return math.ceil(change.users * (change.error / wanted) ** 2)
