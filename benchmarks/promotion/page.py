"""The tables of docs/promotion.md, made from benchmarks/results/promotion.json (`benchmarks/pages.py` puts them there)."""

from collections.abc import Iterable, Mapping
from typing import Any

_RULES = {
    "absolute": "absolute margin of .01 (earlier releases)",
    "relative": "relative margin, champion alone",
    "anchored": "relative margin, anchor, looks counted",
}


def power_block(result: Mapping[str, Any]) -> str:
    """The table of how often a challenger passes, by its true change of recall."""
    return "\n".join(_power(result["rows"]))


def years_block(result: Mapping[str, Any]) -> str:
    """The table of what happens in a year of nights under each rule."""
    return "\n".join(_years(result["rows"]))


def _power(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    passes = {(row["case"], row["subject"]): row["value"] for row in rows if row["metric"] == "passes"}
    changes = sorted({change for _, change in passes}, key=float)
    heads = [f"{float(change):+.0%}" if float(change) else "equal" for change in changes]
    lines = [f"| hold-out | {' | '.join(heads)} |", "|---|" + "---:|" * len(changes)]
    for case in dict.fromkeys(case for case, _ in passes):
        users, look = case.split(" users, look ")
        cells = " | ".join(_share(passes[case, change]) for change in changes)
        lines.append(f"| {int(users):,} users, look {look} | {cells} |")
    return lines


def _years(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    found: dict[tuple[str, str], dict[str, float]] = {}
    for row in rows:
        if row["subject"] in _RULES:
            found.setdefault((row["case"], row["subject"]), {})[row["metric"]] = row["value"]
    metrics = list(next(iter(found.values())))
    lines = [f"| challengers | rule | {' | '.join(metrics)} |", "|---|---|" + "---:|" * len(metrics)]
    shown = min(int(case.split(" users, ")[0]) for case, _ in found)
    for (case, rule), values in found.items():
        users, story = case.split(" users, ")
        if int(users) != shown:
            continue
        cells = [
            f"{value:.1f}" if metric.startswith(("promotions a year", "age")) else _share(value)
            for metric, value in values.items()
        ]
        lines.append(f"| {story} | {_RULES[rule]} | {' | '.join(cells)} |")
    return lines


def _share(value: float) -> str:
    if abs(value) < 0.0005:
        return "0"
    return f"{value:.1%}".replace("%", " %")
