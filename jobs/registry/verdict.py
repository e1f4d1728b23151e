"""May a challenger become champion? Facts in, decision and reasons out; nothing here reads or writes.

Three kinds of things are asked. What must not be: a gate that failed, and recall that lies below the uniform-negatives baseline
of the same night. What must be reached: the absolute floors. And what must be ruled out: a loss of more than the margin,
relative to the champion and to the best version ever in force. Not to know is no reason to promote, so a hold-out that is too
small to rule that loss out leaves the champion in place, and the verdict says how many users it would take.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.base.cutoffs import SLICES, Cutoffs
from jobs.base.settings import GateSettings
from jobs.registry.promotion import Difference, RelativeChange, users_needed

_UNIT_NORM = (0.99, 1.01)


@dataclass(frozen=True)
class Comparison:
    """The challenger against one opponent that it must not lose to.

    Attributes:
        role: `champion`, `anchor` or `baseline`.
        opponent: how reasons call it.
        change: of its recall, at the level of this look.
        look: the how-manieth look at this opponent it is.
    """

    role: str
    opponent: str
    change: RelativeChange
    look: int


@dataclass(frozen=True)
class Facts:
    """All that a verdict depends on, besides the settings.

    Attributes:
        metrics: the challenger's entry of metrics.json.
        cutoffs: depths that it was measured at.
        comparisons: opponents that it must not lose to; without any the floors decide.
        baseline: recall minus that of the uniform-negatives baseline of the same night, with its interval; None without one.
        against_champion: metric -> challenger minus champion with its interval, for metrics that decide nothing.
        blockers: reasons found elsewhere (a gate that failed) that rule a promotion out.
        concerns: what a person must know whatever the verdict is, such as an anchor that cannot be ranked any more.
        remarks: what explains the numbers, such as depths that a small catalogue cut.
    """

    metrics: Mapping[str, Any]
    cutoffs: Cutoffs = field(default_factory=Cutoffs)
    comparisons: Sequence[Comparison] = ()
    baseline: Difference | None = None
    against_champion: Mapping[str, Difference] = field(default_factory=dict)
    blockers: Sequence[str] = ()
    concerns: Sequence[str] = ()
    remarks: Sequence[str] = ()


@dataclass(frozen=True)
class Check:
    """One condition of promotion: `value` against `bound` (a lower bound unless the name says otherwise)."""

    name: str
    value: float | None
    bound: float
    passed: bool


@dataclass(frozen=True)
class Verdict:
    """What the comparison says, and why.

    Attributes:
        passed: whether the challenger may become champion.
        reasons: what matters most first, bad news before good.
        checks: every condition with its value and bound.
        comparisons: with each opponent.
        because: what let it pass, or what kept it back, in one sentence.
        concerns: bad news among the reasons that did not decide.
    """

    passed: bool
    reasons: tuple[str, ...]
    checks: tuple[Check, ...]
    comparisons: tuple[Comparison, ...]
    because: str
    concerns: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        lists = {name: [asdict(part) for part in getattr(self, name)] for name in ("checks", "comparisons")}
        return asdict(self) | lists | {"reasons": list(self.reasons), "concerns": list(self.concerns)}


def decide(facts: Facts, gate: GateSettings, *, embedding_dim: int) -> Verdict:
    """Decide on a challenger.

    Args:
        facts: what was measured.
        gate: floors, margin, and what is allowed.
        embedding_dim: D, to put the spread of the embeddings on a scale from 0 to 1.
    """
    floors = _floors(facts, gate, embedding_dim)
    against = [_check(one, facts.cutoffs.recall, gate) for one in facts.comparisons]
    below = facts.baseline is not None and facts.baseline.high < 0
    failed = list(facts.blockers)
    unknown: list[str] = []
    concerns: list[str] = []
    if facts.baseline is not None and below:
        (concerns if gate.allow_below_baseline else failed).append(_below_baseline(facts.baseline, facts.cutoffs.recall, gate))
    for one, check in zip(facts.comparisons, against, strict=True):
        if not check.passed:
            worse = one.change.high < -gate.max_relative_loss
            (failed if worse else unknown).append((_worse if worse else _unknown)(one, facts.cutoffs.recall, gate))
    failed += [_missed(check) for check in floors if not check.passed]
    concerns += [*_fallen(facts), *facts.concerns]
    checks = [*floors, *against]
    if facts.baseline is not None:
        name = f"{facts.cutoffs.recall} against the baseline, upper end of the interval"
        checks.append(Check(name, facts.baseline.high, 0.0, not below or gate.allow_below_baseline))
    held_back = [*failed, *unknown]
    good = [] if held_back else [_passed(facts, gate, len(floors))]
    reasons = [*held_back, *concerns, *good, *facts.remarks]
    return Verdict(
        not held_back, tuple(reasons), tuple(checks), tuple(facts.comparisons), (held_back or good)[0], tuple(concerns)
    )


def _floors(facts: Facts, gate: GateSettings, embedding_dim: int) -> list[Check]:
    metrics, cutoffs = facts.metrics, facts.cutoffs
    head, tail = cutoffs.slice_recall("head"), cutoffs.slice_recall("tail")
    std, norm = _finite(metrics.get("embedding_std")), _finite(metrics.get("embedding_norm_mean"))
    finite = metrics.get("finite") is True
    spread = None if std is None else std * math.sqrt(embedding_dim)
    return [
        _floor(cutoffs.recall, metrics.get(cutoffs.recall), gate.min_recall),
        _floor(head, metrics.get(head), gate.min_head_recall),
        _floor(tail, metrics.get(tail), gate.min_tail_recall),
        _floor(cutoffs.coverage, metrics.get(cutoffs.coverage), gate.min_coverage),
        Check("embeddings_finite", float(finite), 1.0, finite),
        _floor("embedding_spread", spread, gate.min_embedding_spread),
        Check("embedding_norm", norm, _UNIT_NORM[0], norm is not None and _UNIT_NORM[0] <= norm <= _UNIT_NORM[1]),
    ]


def _floor(name: str, value: Any, bound: float) -> Check:
    """A lower bound. What could not be measured passes only a bound that asks for nothing."""
    number = _finite(value)
    return Check(name, number, bound, bound <= 0 if number is None else number >= bound)


def _check(one: Comparison, recall: str, gate: GateSettings) -> Check:
    name = f"{recall} relative to {one.opponent}, lower end of the interval"
    return Check(name, one.change.low, -gate.max_relative_loss, one.change.low >= -gate.max_relative_loss)


def _missed(check: Check) -> str:
    if check.name == "embeddings_finite":
        return "item embeddings are not all finite"
    if check.value is None:
        return f"{check.name} could not be measured, and at least {check.bound:g} is needed"
    return f"{check.name} is {check.value:.4f}, the bound is {check.bound:.4f}"


def _below_baseline(gap: Difference, recall: str, gate: GateSettings) -> str:
    allowed = " (gate.allow_below_baseline lets it pass)" if gate.allow_below_baseline else ""
    return (
        f"{recall} is below the uniform-negatives baseline of the same night by {-gap.mean:.4f} "
        f"[{gap.low:+.4f}, {gap.high:+.4f}]{allowed}"
    )


def _worse(one: Comparison, recall: str, gate: GateSettings) -> str:
    return f"{recall} is {_change(one)}: it loses more than the {gate.max_relative_loss:.1%} that may be lost"


def _unknown(one: Comparison, recall: str, gate: GateSettings) -> str:
    needed = users_needed(one.change, gate.max_relative_loss)
    remedy = f"; about {float(f'{needed:.2g}'):,.0f} users would do for an equally good model" if needed else ""
    return (
        f"{recall} is {_change(one)}: {one.change.users:,} hold-out users are too few to rule out a loss of more than "
        f"{gate.max_relative_loss:.1%} at look {one.look}{remedy}"
    )


def _fallen(facts: Facts) -> list[str]:
    """Metrics that decide nothing, and that the interval shows to have become worse; new items before the rest."""
    labels = facts.cutoffs.labels
    parts = [facts.cutoffs.slice_recall(part) for part in reversed(SLICES)]
    order = [*parts, *(name for name in labels if name not in parts)]
    fallen = [name for name in order if name in facts.against_champion and facts.against_champion[name].high < 0]
    return [
        f"{labels[name]} is below the champion's by {-gap.mean:.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        for name in fallen
        if name != facts.cutoffs.recall
        for gap in (facts.against_champion[name],)
    ]


def _passed(facts: Facts, gate: GateSettings, floors: int) -> str:
    if not facts.comparisons:
        return f"all {floors} absolute floors are met; there is no champion to compare with"
    said = " and ".join(_change(one) for one in facts.comparisons)
    return (
        f"{facts.cutoffs.recall} is {said}, which rules out a loss of more than {gate.max_relative_loss:.1%}; "
        "all absolute floors are met"
    )


def _change(one: Comparison) -> str:
    """Such as `+0.6% of champion version 3 [-0.2%, +1.4%]`."""
    change = one.change
    return f"{change.mean:+.1%} against {one.opponent} [{change.low:+.1%}, {change.high:+.1%}]"


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
