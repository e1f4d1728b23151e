"""The few figures that the README shows, each next to its peer. All others are on the pages of docs/results."""

from dataclasses import dataclass
from typing import Any

from benchmarks.quality.methods import CONTENDERS
from benchmarks.quality.plan import OURS
from benchmarks.quality.table import AGAINST, TITLES
from benchmarks.table import quantity

Result = dict[str, Any]

_DATA_SETS = ("movielens", "tiktok", "shop-100k-mid")


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
        "One training step, the paper's negatives",
        "step: 100,000 items, batch 1,024",
        "ESANS as in the paper",
        "step",
        "uniform, same real negatives",
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


def block(quality: Result, speed: Result, serving: Result, scale: Result) -> str:
    """One markdown table with eight figures.

    Args:
        quality: result of `make bench-quality`, from the file of this name; so for the others.
        speed: result of this name.
        serving: result of this name.
        scale: result of this name.

    Raises:
        StopIteration: a result no longer has a row that is needed.
    """
    lines = ["| | ours | peer | the peer's | ours / the peer's |", "|---|---|---|---|---|"]
    lines += [_quality(quality["rows"], case) for case in _DATA_SETS]
    for result, wanted in ((speed, _SPEED), (serving, _SERVING), (scale, _SCALE)):
        lines += [_measured(result["rows"], one) for one in wanted]
    return "\n".join(lines)


def _quality(rows: list[dict[str, Any]], case: str) -> str:
    """Our method next to the best of the other methods, whether ours is better or not."""
    value = {(row["subject"], row["metric"]): row["value"] for row in rows if row["case"] == case}
    gain = next(row for row in rows if row["case"] == case and row["metric"] == "gain")
    ours, best, p = CONTENDERS[OURS].title, gain["peer"], value[AGAINST + gain["peer"], "p (Holm)"]
    cells = (
        f"Recall@50, {TITLES[case]}",
        f"{value[ours, 'recall_50']:.4f}",
        f"{best}, the best other method",
        f"{value[best, 'recall_50']:.4f}",
        f"{gain['ratio']:.3f} (p = {p:.2g})",
    )
    return f"| {' | '.join(cells)} |"


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
