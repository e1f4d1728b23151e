"""The rows of the comparison of negatives as markdown: a table for each log, best first."""

from typing import Any

from benchmarks.published.logs import LOGS
from benchmarks.published.table import NAMES, number

METRICS = ("recall_10", "ndcg_10", "recall_20", "recall_50")


def block(result: dict[str, Any]) -> str:
    """A table for each log that has finished trials.

    Args:
        result: what `write_result` wrote.
    """
    logs = list(dict.fromkeys(row["case"] for row in result["rows"]))
    return "\n\n".join(_log(name, [row for row in result["rows"] if row["case"] == name]) for name in logs)


def _log(name: str, rows: list[dict[str, Any]]) -> str:
    log, by = LOGS[name], {(row["subject"], row["metric"]): row for row in rows}
    subjects = sorted(
        {row["subject"] for row in rows}, key=lambda subject: (-float(by[subject, "recall_50"]["value"]), subject)
    )
    names = " | ".join(NAMES[metric] for metric in METRICS)
    lines = [
        f"### {log.title}",
        "",
        f"| | {names} | Recall@50 against | seeds | seconds |",
        f"|---|{'---|' * (len(METRICS) + 3)}",
    ]
    for subject in subjects:
        cells = [_mean(by, subject, metric) for metric in METRICS]
        seeds, seconds = by[subject, "recall_50"]["repeats"], by[subject, "seconds"]["value"]
        lines.append(f"| {subject} | {' | '.join(cells)} | {_gain(by, subject)} | {seeds} | {seconds:,.0f} |")
    return "\n".join(lines)


def _mean(by: dict[tuple[str, str], dict[str, Any]], subject: str, metric: str) -> str:
    deviation = by.get((subject, f"{metric}_sd"))
    return number(by[subject, metric]["value"], deviation["value"] if deviation else None)


def _gain(by: dict[tuple[str, str], dict[str, Any]], subject: str) -> str:
    row = by.get((subject, "recall_50 p"))
    return "" if row is None else f"{row['ratio'] - 1:+.1%} {row['peer']} (p {row['value']:.3f})"
