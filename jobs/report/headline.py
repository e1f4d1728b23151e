"""What a report says first: whether today's model is better, for whom it became worse, and what else to mind."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.pages.words import verdict_tone
from jobs.registry.intervals import metric_intervals
from jobs.registry.promotion import Difference
from jobs.report.facts import RunFacts

_OPPONENTS = ("champion", "baseline")
_NAMES = {"champion": "the champion", "baseline": "the uniform baseline"}
_MUCH = 0.2  # a part of the hold-out that loses this share of its recall is said in the headline
_MOST = 3  # warnings that the first screen spells out


@dataclass(frozen=True)
class Gap:
    """The challenger against one opponent on one metric or one part of the hold-out.

    Attributes:
        part: what is compared, such as `new items`.
        opponent: `champion` or `baseline`.
        own: the challenger's value, from 0 to 1.
        other: the opponent's value, from 0 to 1.
        low: lower end of the interval of `own - other`; None where it has none.
        high: upper end.
    """

    part: str
    opponent: str
    own: float
    other: float
    low: float | None = None
    high: float | None = None

    @property
    def change(self) -> float:
        """The difference in the value."""
        return self.own - self.other

    @property
    def relative(self) -> float:
        """The difference as a share of the opponent's value; 0 if the opponent finds nothing."""
        return self.change / self.other if self.other else 0.0

    @property
    def sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Headline:
    """The first screen of a report.

    Attributes:
        answer: is today's model better?
        numbers: by how much; empty if there is no model.
        losses: a sentence for each part that lost much against the champion, the largest loss first.
        warnings: what else to mind: failed steps, bad news of the verdict, findings of the gates.
        tone: `good`, `warn`, `bad` or `plain`; `good` only for a promotion with nothing to warn of.
        gaps: all comparisons, in the order of the picture.
    """

    answer: str
    numbers: str
    losses: tuple[str, ...]
    warnings: tuple[str, ...]
    tone: str
    gaps: tuple[Gap, ...]

    def as_json(self) -> dict[str, Any]:
        """All but the comparisons, as summary.json keeps it."""
        lists = {"losses": list(self.losses), "warnings": list(self.warnings)}
        return {"answer": self.answer, "numbers": self.numbers, **lists, "tone": self.tone}


def headline(facts: RunFacts, summary: Mapping[str, Any]) -> Headline:
    """The first screen of a run.

    Args:
        facts: records of the run.
        summary: as `build_summary` makes it.
    """
    gaps = compare(facts)
    lost = _losses(gaps)
    losses, warnings = tuple(lost.values()), tuple(_warnings(summary, lost))
    tone = verdict_tone(summary.get("verdict"))
    if any(step["state"] != "success" for step in summary["steps"]):
        tone = "bad"
    elif tone == "good" and (losses or warnings):
        tone = "warn"
    return Headline(*_answer(facts, gaps), losses, warnings, tone, gaps)


def compare(facts: RunFacts) -> tuple[Gap, ...]:
    """The challenger against champion and baseline on every metric of users, and on every part of the hold-out told apart."""
    return tuple(_gaps(facts))


def _gaps(facts: RunFacts) -> Iterator[Gap]:
    models, cutoffs = facts.metrics.get("models") or {}, Cutoffs.of(facts.metrics)
    own = models.get("challenger")
    if not own:
        return
    intervals = _intervals(facts, cutoffs)
    labels = {name: label.partition(", ")[2] or label for name, label in cutoffs.labels.items() if name in cutoffs.of_users}
    for opponent in _OPPONENTS:
        other, found = models.get(opponent) or {}, intervals.get(opponent, {})
        for name, label in labels.items():
            if own.get(name) is not None and other.get(name) is not None:
                difference = found.get(name)
                ends = (difference.low, difference.high) if difference else (None, None)
                yield Gap(label, opponent, own[name], other[name], *ends)
        for part, apart in (facts.metrics.get("recall_apart") or {}).items():
            recall = apart["recall"]
            if "challenger" in recall and opponent in recall:
                low, high = (apart.get("intervals") or {}).get(opponent, (None, None))  # none by an earlier release
                yield Gap(part, opponent, recall["challenger"], recall[opponent], low, high)


def _intervals(facts: RunFacts, cutoffs: Cutoffs) -> Mapping[str, Mapping[str, Difference]]:
    if "evaluation" not in facts.manifests:
        return {}
    try:
        return metric_intervals(facts.settings, cutoffs)
    except DataError:  # the verdict says it; the page shows what there is
        return {}


def _answer(facts: RunFacts, gaps: tuple[Gap, ...]) -> tuple[str, str]:
    """The answer, and by how much."""
    recall = Cutoffs.of(facts.metrics).labels[Cutoffs.of(facts.metrics).recall]
    main = {gap.opponent: gap for gap in gaps if gap.part == recall}
    if not main:
        return "There is no model of this date to compare: the run stopped before its evaluation.", ""
    first = main.get("champion") or main["baseline"]
    word = "better than" if first.change > 0 else "worse than"
    if first.low is not None and not first.sure:
        word = "neither clearly better nor clearly worse than"
    start = "" if "champion" in main else "There is no champion to compare with. "
    told = [f"{_amount(gap)} that of {_NAMES[gap.opponent]}" for gap in main.values()]
    return f"{start}Today's model is {word} {_NAMES[first.opponent]}.", f"Its {recall} differs by {' and by '.join(told)}."


def _amount(gap: Gap) -> str:
    interval = "" if gap.low is None else f" [{gap.low:+.4f}, {gap.high:+.4f}]"
    return f"{gap.change:+.4f}{interval} ({gap.relative:+.1%}) from"


def _losses(gaps: tuple[Gap, ...]) -> dict[str, str]:
    """A sentence for each part of the hold-out that lost much, by the part; the largest loss first."""
    told = {}
    lost = [gap for gap in gaps if gap.opponent == "champion" and "@" not in gap.part and gap.relative < 0]
    for gap in sorted(lost, key=lambda gap: gap.relative):
        if round(gap.relative, 2) <= -_MUCH or gap.sure:
            chance = "" if gap.sure else ". This may be chance" if gap.low is not None else ""
            found = f"Recall of {gap.part} fell by {-gap.relative:.0%}"
            told[gap.part] = f"{found} against the champion, from {gap.other:.4f} to {gap.own:.4f}{chance}."
    return told


def _warnings(summary: Mapping[str, Any], lost: Mapping[str, str]) -> list[str]:
    """What else to mind; bad news of the verdict about a part that the losses name is not said twice."""
    steps = [f"{step['step']} {step['state']}: {step['message']}" for step in summary["steps"] if step["state"] != "success"]
    said = tuple(f", {part} is below the champion's" for part in lost)
    concerns = [
        concern
        for concern in (summary.get("verdict") or {}).get("concerns") or ()
        if not any(words in concern for words in said)
    ]
    findings = [
        f"{finding['stage'].replace('_', ' ')}: {finding['message']}"
        for finding in summary["findings"]
        if not any(finding["message"] in step for step in steps)  # a gate that stopped the run has said it
    ]
    more = len(findings) - _MOST
    return [*steps, *concerns, *findings[:_MOST], *([f"{more} more findings of the gates are below."] if more > 0 else [])]
