"""May a challenger become champion? Pure decision logic over numbers; nothing here knows of MLflow or files."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.settings import GateSettings

_UNIT_NORM = (0.99, 1.01)


@dataclass(frozen=True)
class Difference:
    """Mean of challenger minus other over the same users, with the bounds of its bootstrap interval."""

    mean: float
    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class Check:
    """One condition of promotion: `value` against `bound` (a lower bound unless the name says otherwise)."""

    name: str
    value: float | None
    bound: float
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What the comparison says, and why."""

    passed: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    difference: Difference | None

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"reasons": list(self.reasons), "checks": [asdict(check) for check in self.checks]}


def paired_bootstrap(
    challenger: NDArray[np.float64],
    other: NDArray[np.float64],
    *,
    samples: int,
    confidence: float,
    seed: int,
    block: int = 64,
) -> Difference:
    """Percentile interval of the mean difference, users resampled in pairs.

    Args:
        challenger: float64 [U], a metric per user.
        other: float64 [U], the same metric of another model for the same users in the same order.
        samples: resamples of U users.
        confidence: level of the two-sided interval.
        seed: of the resampling; the same seed gives the same interval, whatever `block`.
        block: resamples drawn at once; bounds the memory at `block * U` indices.

    Raises:
        ValueError: the arrays are empty, of different length, or not finite.
    """
    if challenger.shape != other.shape or challenger.ndim != 1 or not len(challenger):
        raise ValueError(f"expected two equal, non-empty vectors, got shapes {challenger.shape} and {other.shape}")
    difference = challenger - other
    if not np.isfinite(difference).all():
        raise ValueError(f"{int((~np.isfinite(difference)).sum())} users have a metric that is not finite")
    generator, count = np.random.default_rng(seed), len(difference)
    means = np.empty(samples)
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        drawn = generator.integers(0, count, size=(rows, count))
        means[start : start + rows] = difference[drawn].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Difference(float(difference.mean()), float(low), float(high), confidence)


def judge(
    metrics: Mapping[str, Any],
    gate: GateSettings,
    *,
    embedding_dim: int,
    difference: Difference | None,
    opponent: str,
    blockers: Sequence[str] = (),
) -> Verdict:
    """Decide on a challenger.

    Args:
        metrics: the challenger's entry of metrics.json.
        gate: the floors and the loss that is tolerated.
        embedding_dim: D, to put the spread of the embeddings on a scale from 0 to 1.
        difference: of Recall@50 to the opponent; None when there is none, and the floors alone decide.
        opponent: how reasons call the model compared with.
        blockers: reasons found elsewhere (a gate that failed) that rule a promotion out.
    """
    spread = _scaled(metrics.get("embedding_std"), embedding_dim)
    norm = _finite(metrics.get("embedding_norm_mean"))
    checks = [
        _floor("recall_50", metrics.get("recall_50"), gate.min_recall),
        _floor("head_recall_50", metrics.get("head_recall_50"), gate.min_head_recall),
        _floor("tail_recall_50", metrics.get("tail_recall_50"), gate.min_tail_recall),
        _floor("coverage_50", metrics.get("coverage_50"), gate.min_coverage),
        Check("embeddings_finite", float(metrics.get("finite") is True), 1.0, metrics.get("finite") is True),
        _floor("embedding_spread", spread, gate.min_embedding_spread),
        Check("embedding_norm", norm, _UNIT_NORM[0], norm is not None and _UNIT_NORM[0] <= norm <= _UNIT_NORM[1]),
    ]
    if difference is not None:
        name = f"recall_50 against {opponent}, lower end of the interval"
        checks.append(Check(name, difference.low, -gate.max_recall_loss, difference.low >= -gate.max_recall_loss))
    reasons = [*blockers, *(_reason(check) for check in checks if not check.passed)]
    passed = not reasons
    if passed:
        reasons = [_passed(difference, opponent, gate, len(checks))]
    return Verdict(passed, tuple(reasons), tuple(checks), difference)


def _floor(name: str, value: Any, bound: float) -> Check:
    """A lower bound. What could not be measured passes only a bound that asks for nothing."""
    number = _finite(value)
    return Check(name, number, bound, bound <= 0 if number is None else number >= bound)


def _reason(check: Check) -> str:
    if check.name == "embeddings_finite":
        return "item embeddings are not all finite"
    if check.value is None:
        return f"{check.name} could not be measured, and at least {check.bound:g} is needed"
    return f"{check.name} is {check.value:.4f}, the bound is {check.bound:.4f}"


def _passed(difference: Difference | None, opponent: str, gate: GateSettings, count: int) -> str:
    if difference is None:
        return f"all {count} absolute floors are met; there is no champion to compare with"
    return (
        f"recall_50 differs from {opponent} by {difference.mean:+.4f} "
        f"[{difference.low:+.4f}, {difference.high:+.4f}], within the tolerated loss of {gate.max_recall_loss:g}; "
        "all absolute floors are met"
    )


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _scaled(std: Any, dim: int) -> float | None:
    number = _finite(std)
    return None if number is None else number * math.sqrt(dim)
