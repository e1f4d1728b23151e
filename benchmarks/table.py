"""Results as tables: all rows for the terminal, and the most important ones for the pages of docs."""

from collections.abc import Iterable
from typing import Any

_SIGNIFICANT = 3
_TITLES = {
    "sampler": "Sampling",
    "near_clusters": "Sampling, many clusters",
    "step": "A training step",
    "edis": "Virtual negatives",
    "loss": "The loss, in-batch negatives",
    "codebooks": "Codebooks",
    "assignment": "Nearest codes",
    "serving": "Serving",
    "daily": "A day",
    "spark assignment": "Assignment",
    "extraction": "Pictures",
    "model extraction": "Pictures",
    "trainer": "Training",
    "index": "Clusters",
    "check": "A look before a run",
    "serving over HTTP": "Serving over HTTP",
}
_SHOWN = {
    "sampler": {"throughput", "growth of the cost per negative", "memory", "waits that torch reports"},
    "near_clusters": {"throughput", "memory"},
    "step": {"step", "waits that torch reports"},
    "edis": {"forward and backward", "peak memory"},
    "loss": {"forward and backward", "peak memory"},
    "codebooks": {"time to fit", "primary distortion", "primary smallest cluster"},
    "assignment": {"throughput"},
    "serving": {"one query, 99th percentile", "recall@200 of exact search"},
    "daily": {"time for each item", "peak memory of the driver"},
    "spark assignment": {"throughput"},
    "extraction": {"throughput", "pictures encoded", "time"},
    "model extraction": {"throughput"},
    "trainer": {"peak memory"},
    "index": {"time to open"},
    "check": {"time", "peak memory"},
    "serving over HTTP": {
        "requests per second",
        "a request, median",
        "a request, 99th percentile",
        "requests lost while the bundle changed 20 times",
    },
}
_OF_KINDS = {"check", "serving over HTTP"}  # their cases differ in kind and not in size, so each is shown


def block(result: dict[str, Any]) -> str:
    """A markdown table of the rows with a peer or a bar: of several sizes the largest, and each that misses its bar.

    Args:
        result: a result of `write_result`: `rows` with case, subject, metric, unit, value and, if they apply, peer, ratio,
            bar and holds.
    """
    shown = [row for row in result["rows"] if row["metric"] in _SHOWN[_family(row)] and ("ratio" in row or "bar" in row)]
    last = {_question(row): row for row in shown}
    missed = {row["case"] for row in shown if row.get("holds") is False}
    lines = ["| | ratio | to | bar | value | measured on |", "|---|---|---|---|---|---|"]
    for row in shown:
        if row is last[_question(row)] or row["case"] in missed:
            lines.append("| " + " | ".join(_cells(row)) + " |")
    return "\n".join(lines)


def text(rows: Iterable[dict[str, Any]]) -> str:
    """All rows as columns of text, for the terminal."""
    cells = [_plain(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def quantity(value: float, unit: str = "") -> str:
    """The value with three significant digits and short units, such as `12.3 M negatives/s` or `0.0412 ms`."""
    scale, mark = (1e6, " M") if abs(value) >= 1e6 else (1.0, "")
    scaled = value / scale
    digits = max(0, _SIGNIFICANT - len(str(int(abs(scaled))))) if abs(scaled) >= 1 else None
    number = f"{scaled:.{_SIGNIFICANT}g}" if digits is None else f"{scaled:,.{digits}f}"
    return f"{number}{mark} {unit}".rstrip()


def _family(row: dict[str, Any]) -> str:
    return str(row["case"]).partition(":")[0]


def _question(row: dict[str, Any]) -> tuple[Any, ...]:
    kind = row["case"] if _family(row) in _OF_KINDS else ""
    return (_family(row), kind, row["subject"], row["metric"], row.get("peer"), row.get("bar"))


def _cells(row: dict[str, Any]) -> list[str]:
    family, case = _family(row), row["case"].partition(": ")[2]
    ratio = quantity(row["ratio"]) if "ratio" in row else ""
    bar = f"{row['bar']}: {'holds' if row['holds'] else '**missed**'}" if "bar" in row else ""
    what = f"{_TITLES[family]}: {row['subject']}, {row['metric']}"
    return [what, ratio, row.get("peer", ""), bar, quantity(row["value"], row["unit"]), case]


def _plain(row: dict[str, Any]) -> list[str]:
    ratio = f"{quantity(row['ratio'])} x {row['peer']}" if "ratio" in row else ""
    bar = f"{row['bar']} {'HOLDS' if row['holds'] else 'MISSED'}" if "bar" in row else ""
    return [row["case"], row["subject"], row["metric"], quantity(row["value"], row["unit"]), ratio, bar]
