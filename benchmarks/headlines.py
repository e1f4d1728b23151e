"""The few figures that the README shows, each next to its peer. All others are on the pages of docs/results."""

from dataclasses import dataclass
from typing import Any

from benchmarks.negatives.contenders import CONTENDERS
from benchmarks.published.logs import LOGS
from benchmarks.published.table import NAMES, TUNED
from benchmarks.table import quantity

Result = dict[str, Any]

_PUBLISHED = ("s3rec_beauty", "gowalla", "tiktok")
_NEGATIVES = ("tiktok",)


@dataclass(frozen=True)
class _Measured:
    """One row of a result that names its peer, and what the README calls it."""

    title: str
    case: str
    subject: str
    metric: str
    peer: str


_SPEED = (
    _Measured(
        "Negatives drawn, 1,000,000 items",
        "sampler: 1,000,000 items",
        "ESANS sampler",
        "throughput",
        "RecBole popularity, draws alone",
    ),
    _Measured(
        "Peak memory of the loss, batch 4,096",
        "loss: batch 4,096",
        "summed_log_partition",
        "peak memory",
        "sentence-transformers MultipleNegativesRankingLoss",
    ),
)
_SERVING = (
    _Measured(
        "One query, 99th percentile, 100,000 items",
        "serving: 100,000 items",
        "serving bundle",
        "one query, 99th percentile",
        "the same, searched exactly",
    ),
)
_SCALE = (
    _Measured(
        "Items put into clusters by Spark, 1,000,000 items",
        "spark assignment: 1,000,000 items, 128 codes, 64 dimensions",
        "assignment in Spark",
        "throughput",
        "Spark MLlib KMeansModel.transform",
    ),
)


def block(published: Result, negatives: Result, speed: Result, serving: Result, scale: Result) -> str:
    """One markdown table. Of the public logs, it shows those with all seeds.

    Args:
        published: result of `make bench-published`, from the file of this name; so for the others.
        negatives: result of this name.
        speed: result of this name.
        serving: result of this name.
        scale: result of this name.

    Raises:
        StopIteration: a result no longer has a row that is needed.
    """
    lines = ["| | ours | peer | the peer's | ours / the peer's |", "|---|---|---|---|---|"]
    lines += [line for log in _PUBLISHED for line in _published(published["rows"], log)]
    lines += [line for log in _NEGATIVES for line in _negatives(negatives["rows"], log)]
    for result, wanted in ((speed, _SPEED), (serving, _SERVING), (scale, _SCALE)):
        lines += [_measured(result["rows"], one) for one in wanted]
    return "\n".join(lines)


def _published(rows: list[dict[str, Any]], log: str) -> list[str]:
    """Our towers on a log next to the best published figure: tuned, or else with the defaults."""
    metric = LOGS[log].main
    found = [row for row in rows if (row["case"], row["metric"]) == (log, f"{metric} against the bar")]
    if not found:
        return []
    row = next((row for row in found if row["subject"].startswith(TUNED)), found[0])
    how = "tuned" if row["subject"].startswith(TUNED) else "defaults"
    value, ratio = row["value"], row["ratio"]
    cells = (f"{NAMES[metric]}, {LOGS[log].title} ({how})", f"{value:.4f}", f"{row['peer']}, published")
    return [f"| {' | '.join(cells)} | {value / ratio:.4f} | {ratio:.3f} |"]


def _negatives(rows: list[dict[str, Any]], log: str) -> list[str]:
    """The paper's negatives next to as many uniform ones, on the same towers."""
    esans = CONTENDERS["esans"].title
    own = {row["metric"]: row for row in rows if (row["case"], row["subject"]) == (log, esans)}
    if "recall_50 p" not in own:
        return []
    value, gain = own["recall_50"]["value"], own["recall_50 p"]
    cells = (f"Recall@50, 15 negatives, {LOGS[log].title}", f"{value:.4f}", gain["peer"], f"{value / gain['ratio']:.4f}")
    return [f"| {' | '.join(cells)} | {gain['ratio']:.3f} (p = {gain['value']:.2g}) |"]


def _measured(rows: list[dict[str, Any]], wanted: _Measured) -> str:
    row = next(
        row
        for row in rows
        if (row["case"], row["subject"], row["metric"], row.get("peer"))
        == (wanted.case, wanted.subject, wanted.metric, wanted.peer)
    )
    theirs = row["value"] / row["ratio"]
    cells = (
        wanted.title,
        quantity(row["value"], row["unit"]),
        wanted.peer,
        quantity(theirs, row["unit"]),
        quantity(row["ratio"]),
    )
    return f"| {' | '.join(cells)} |"
