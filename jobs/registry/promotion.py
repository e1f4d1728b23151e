"""The statistics of promotion: how much a challenger gains or loses, how sure that is, and what repeated looks cost.

Pure functions over numbers; nothing here knows of MLflow or files.
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
        low: lower bound, missed by the truth with probability `level`; at least -1, as nothing more can be lost.
        high: upper bound, likewise.
        level: chance of error on either side.
        error: standard error of `mean`.
        users: how many.
    """

    mean: float
    low: float
    high: float
    level: float
    error: float
    users: int


def relative_change(challenger: NDArray[np.float64], other: NDArray[np.float64], *, level: float) -> RelativeChange:
    """Change of a mean relative to the opponent's, users in pairs, with Student's bounds.

    The standard error of a ratio of means is that of the mean of `challenger - (1 + change) * other`, over the opponent's mean
    (the delta method: Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, section 3). Bounds from
    the normal theory and not from a bootstrap, because the levels of later looks lie far outside of what some thousand
    resamples can resolve.

    Args:
        challenger: float64 [U], a metric per user.
        other: float64 [U], the same metric of another model for the same users in the same order.
        level: chance of error on either side, between 0 and 0.5.

    Returns:
        The change. Against an opponent that finds nothing there is nothing to lose: all of it is 0. One user alone tells
        nothing: the bounds are -1 and 1.

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
    """Chance of error that a look may take of the error rate, so that all looks together keep to it.

    The n-th look takes 1 / (n (n + 1)) of the rate: a half, a sixth, a twelfth and so on, together less than all of it however
    many looks there are. So the chance that any of them passes a model that it should not is at most the error rate (the union
    bound). That the count starts anew with every promotion is the rule LORD 1 of Javanmard and Montanari ("Online rules for
    control of false discovery rate and false discovery exceedance", Annals of Statistics 46(2), 2018), with these weights.

    >>> [round(level_of_look(look, 0.05), 4) for look in (1, 2, 3, 30)]
    [0.025, 0.0083, 0.0042, 0.0001]
    """
    if look < 1:
        raise ValueError(f"looks are counted from 1, got {look}")
    return error_rate / (look * (look + 1))


def users_needed(change: RelativeChange, margin: float) -> int | None:
    """Hold-out users with whom an equally good model would pass four times in five at this look; None at a margin of 0.

    The normal approximation: the standard error shrinks with the root of the users.

    Args:
        change: of a comparison at this look.
        margin: relative loss that has to be ruled out.
    """
    if margin <= 0:
        return None
    wanted = margin / float(ndtri(1 - change.level) + ndtri(_POWER))
    return math.ceil(change.users * (change.error / wanted) ** 2)
