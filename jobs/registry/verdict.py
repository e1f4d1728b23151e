"""Decides whether a challenger may become champion, and gives the reasons. Nothing here reads or writes files.

There are three kinds of conditions. No gate may have failed, and recall must not lie below the uniform-negatives baseline of
the same night. The absolute floors must be reached. A loss of more than the margin must be ruled out, relative to the champion
and to the best version ever in force. If a hold-out is too small to rule that loss out, we cannot tell, and the champion
stays. The verdict then says how many users would be enough.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.base.cutoffs import SLICES, Cutoffs
from jobs.base.settings import GateSettings
from jobs.registry.promotion import Difference, RelativeChange, users_needed

_UNIT_NORM = (0.99, 1.01)
_HOW_TO_PASS = "; try another sampling.method, or set gate.allow_below_baseline to promote such a model all the same"


@dataclass(frozen=True)
class Comparison:
    """The challenger against one opponent that it must not lose to.

    Attributes:
        role: `champion`, `anchor` or `baseline`.
        opponent: what reasons call it.
        change: change of the recall against the opponent, at the level of this look.
        look: number of this look at the opponent, counted from 1.
    """

    role: str
    opponent: str
    change: RelativeChange
    look: int


@dataclass(frozen=True)
class Facts:
    """All that a verdict depends on, apart from the settings.

    Attributes:
        metrics: the challenger's entry of metrics.json.
        cutoffs: depths at which it was measured.
        comparisons: with the opponents that it must not lose to; if there are none, the floors decide.
        baseline: recall minus that of the uniform-negatives baseline of the same night, with its interval; None without one.
        against_champion: metric -> challenger minus champion with its interval, for metrics that decide nothing.
        blockers: reasons found elsewhere (a gate that failed) that rule a promotion out.
        concerns: what a person must know whatever the verdict is, for example that an anchor cannot be ranked any more.
        remarks: what explains the numbers, for example that the depths are smaller because the catalogue is small.
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
        reasons: the most important one first, and bad news before good news.
        checks: every condition with its value and bound.
        comparisons: the comparison with each opponent.
        because: why it passed, or why it did not, in one sentence.
        concerns: the reasons that are bad news but did not decide.
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
        embedding_dim: D. It puts the spread of the embeddings on a scale from 0 to 1.
    """
    floors = _floors(facts, gate, embedding_dim)
    against = [_check(one, facts.cutoffs.recall, gate) for one in facts.comparisons]
    below = facts.baseline is not None and facts.baseline.high < 0
    failed = list(facts.blockers)
    unknown: list[str] = []
    concerns: list[str] = []
    if facts.baseline is not None and below:
        (concerns if gate.allow_below_baseline else failed).append(_below_baseline(facts.baseline, facts.cutoffs.recall, gate))
    elif facts.baseline is not None and facts.baseline.mean < 0:
        concerns.append(_perhaps_below(facts.baseline, facts.cutoffs.recall))
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
    """A lower bound. A value that could not be measured passes only if the bound is 0 or less."""
    number = _finite(value)
    return Check(name, number, bound, bound <= 0 if number is None else number >= bound)


def _check(one: Comparison, recall: str, gate: GateSettings) -> Check:
    name = f"{recall} relative to {one.opponent}, lower end of the interval"
    return Check(name, one.change.low, -gate.max_relative_loss, one.change.low >= -gate.max_relative_loss)


def _missed(check: Check) -> str:
    if check.name == "embeddings_finite":
        return "item embeddings are not all finite"
    if check.value is None:
        return f"{check.name} could not be measured, but it must be at least {check.bound:g}"
    if check.name == "embedding_norm":
        return f"embedding_norm is {check.value:.4f}, but it must lie between {_UNIT_NORM[0]:g} and {_UNIT_NORM[1]:g}"
    return f"{check.name} is {check.value:.4f}, but the bound is {check.bound:.4f}"


def _below_baseline(gap: Difference, recall: str, gate: GateSettings) -> str:
    allowed = " (gate.allow_below_baseline lets it pass)" if gate.allow_below_baseline else _HOW_TO_PASS
    return (
        f"{recall} is below the uniform-negatives baseline of the same night by {-gap.mean:.4f} "
        f"[{gap.low:+.4f}, {gap.high:+.4f}]{allowed}"
    )


def _perhaps_below(gap: Difference, recall: str) -> str:
    return (
        f"{recall} is {-gap.mean:.4f} lower than that of the uniform-negatives baseline of the same night, which may be chance "
        f"[{gap.low:+.4f}, {gap.high:+.4f}]"
    )


def _worse(one: Comparison, recall: str, gate: GateSettings) -> str:
    return f"{recall} differs by {_change(one)}: it loses more than the {gate.max_relative_loss:.1%} that may be lost"


def _unknown(one: Comparison, recall: str, gate: GateSettings) -> str:
    needed = users_needed(one.change, gate.max_relative_loss)
    remedy = f"; about {float(f'{needed:.2g}'):,.0f} users would be enough for an equally good model" if needed else ""
    return (
        f"{recall} differs by {_change(one)}: {one.change.users:,} hold-out users are too few to rule out a loss of more than "
        f"{gate.max_relative_loss:.1%} at look {one.look}{remedy}"
    )


def _fallen(facts: Facts) -> list[str]:
    """The metrics that became worse by their interval, but that decide nothing; metrics of new items come first."""
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
        f"{facts.cutoffs.recall} differs by {said}, which rules out a loss of more than {gate.max_relative_loss:.1%}; "
        "all absolute floors are met"
    )


def _change(one: Comparison) -> str:
    """A change in words, such as `+0.6% from champion version 3 [-0.2%, +1.4%]`."""
    change = one.change
    return f"{change.mean:+.1%} from {one.opponent} [{change.low:+.1%}, {change.high:+.1%}]"


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
