"""The words by which people read what a run found: models, verdicts, counts and durations. Every page takes them from here."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

from jobs.base.verdicts import (
    AWAITING_PROMOTION,
    AWAITING_REVIEW,
    BLOCKED_BY_GATE,
    CHAMPION_IS_NEWER,
    KEPT_CHAMPION,
    NO_CHAMPION,
    NOT_PROMOTED_BY_POLICY,
    PROMOTED,
    REJECTED_IN_REVIEW,
)

MODELS = {
    "challenger": "challenger (today)",
    "champion": "champion",
    "anchor": "best ever in force",
    "baseline": "uniform-negatives baseline",
    "popularity": "most popular items",
}
_HELD_BACK = {
    KEPT_CHAMPION: "CHAMPION KEPT",
    NO_CHAMPION: "NOT GOOD ENOUGH",
    CHAMPION_IS_NEWER: "NOT PROMOTED, the champion is of a later date",
    NOT_PROMOTED_BY_POLICY: "NOT PROMOTED, by policy",
    BLOCKED_BY_GATE: "BLOCKED by a gate",
    AWAITING_REVIEW: "NOT PROMOTED YET, waiting for a review",
    AWAITING_PROMOTION: "NOT PROMOTED YET, the run stopped before",
    REJECTED_IN_REVIEW: "NOT PROMOTED, rejected in review",
}
_BAD = frozenset({NO_CHAMPION, BLOCKED_BY_GATE, REJECTED_IN_REVIEW})
_NOTHING = "–"


def verdict_text(verdict: Mapping[str, Any] | None, *, still: bool = True) -> str:
    """The decision about promotion in one line; a promotion with bad news says so first.

    Args:
        verdict: content of verdict.json; nothing where the run did not come to it.
        still: whether a version that was promoted has not been taken back or replaced since.
    """
    if not verdict:
        return "NONE: the run did not reach the promotion gate"
    word, version, champion = str(verdict.get("verdict")), verdict.get("version"), verdict.get("champion_version")
    before, alias = verdict.get("incumbent_version"), verdict.get("alias") or "champion"
    if word == PROMOTED:
        place = f" (before: version {before})" if before not in (None, version) else ""
        mind = f", but {verdict['concerns'][0]}" if verdict.get("concerns") else ""
        carries = "now carries" if still else "carried"
        return f"PROMOTED{mind}: registered version {version} {carries} the alias '{alias}'{place}"
    stays = f"version {champion} stays '{alias}'" if champion is not None else f"no version carries the alias '{alias}'"
    head = _HELD_BACK.get(word, word.replace("_", " ").upper())
    return f"{head}: version {version} is registered, {stays}"


def verdict_tone(verdict: Mapping[str, Any] | None) -> str:
    """How a page colours a decision: `good`, `warn` (a promotion with bad news), `bad` (it cannot serve) or `plain`."""
    word, concerns = (verdict or {}).get("verdict"), (verdict or {}).get("concerns")
    if word == PROMOTED:
        return "warn" if concerns else "good"
    return "bad" if word in _BAD else "plain"


def count(value: Any) -> str:
    """A whole number with commas."""
    return _NOTHING if value is None else f"{value:,}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many digits."""
    return _NOTHING if value is None else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share, in per cent."""
    return _NOTHING if value is None else f"{value:.1%}"


def duration(seconds: float | None) -> str:
    """`7.3 s`, or `4 min 32 s` from a minute on."""
    if seconds is None:
        return "-"
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {seconds % 60:02.0f} s"


def minute(at: str) -> str:
    """A time of a record, to the minute, in UTC."""
    return dt.datetime.fromisoformat(at).strftime("%Y-%m-%d %H:%M") if at else ""
