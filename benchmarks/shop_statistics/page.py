"""The tables of docs/results/shop.md, made from benchmarks/results/shop_statistics.json by `benchmarks/pages.py`."""

from collections.abc import Mapping
from typing import Any

from benchmarks.table import quantity

_SIZES = ("users", "items", "events")


def statistics_block(result: Mapping[str, Any]) -> str:
    """One line for each statistic: real logs, their range, and the shops. A value outside the range is bold."""
    rows = [row for row in result["rows"] if row["case"] in ("real log", "shop")]
    cells = {(row["subject"], row["metric"]): row for row in rows}
    logs = {case: list(dict.fromkeys(row["subject"] for row in rows if row["case"] == case)) for case in ("real log", "shop")}
    heads = [*logs["real log"], "range", *(f"shop {name}" for name in logs["shop"])]
    lines = [f"| | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    for metric in sorted(dict.fromkeys(row["metric"] for row in rows), key=_place(rows)):
        real = [cells.get((name, metric)) for name in logs["real log"]]
        shops = [cells.get((name, metric)) for name in logs["shop"]]
        known = [row["value"] for row in real if row]
        between = "" if metric in _SIZES or len(known) < 2 else f"{_number(min(known))} to {_number(max(known))}"
        lines.append(f"| {metric} | {' | '.join([*map(_cell, real), between, *map(_cell, shops)])} |")
    return "\n".join(lines)


def drawing_block(result: Mapping[str, Any]) -> str:
    """What it takes to draw each log."""
    rows = [row for row in result["rows"] if row["case"] == "drawing a log"]
    cells = {(row["subject"], row["metric"]): quantity(row["value"], row["unit"]) for row in rows}
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    lines = [f"| shop | {' | '.join(metrics)} |", "|---|" + "---:|" * len(metrics)]
    for name in dict.fromkeys(row["subject"] for row in rows):
        lines.append(f"| {name} | {' | '.join(cells[name, metric] for metric in metrics)} |")
    return "\n".join(lines)


def _place(rows: list[dict[str, Any]]) -> Any:
    """Key that puts metrics in the order of the log that has most of them: a shop has times, an order and clusters."""
    last = [row["metric"] for row in rows if row["subject"] == rows[-1]["subject"]]
    return lambda metric: last.index(metric) if metric in last else len(last)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    return f"**{_number(row['value'])}**" if row.get("holds") is False else _number(row["value"])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
