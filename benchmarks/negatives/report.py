"""From finished trials to `negatives.json`: the mean of each contender, its gain over a peer, and a paired test."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.negatives.contenders import CONTENDERS, LOGS
from benchmarks.negatives.runner import finished
from benchmarks.negatives.table import METRICS, block
from benchmarks.published.report import seed_rows
from benchmarks.quality.statistics import holm, paired_p
from benchmarks.record import Row, write_result


def write(kept: Path, results: Path, command: str = "make bench-negatives FOLDER=/path/to/logs") -> None:
    """Write `negatives.json` and show it as tables.

    Args:
        kept: folder with the files `<log>.jsonl`.
        results: where the file goes.
        command: what a person types to measure again.
    """
    rows = [row for log in LOGS for row in rows_of(log, dict(finished(log, kept)))]
    path = write_result("negatives", command, rows, folder=results)
    print(block(json.loads(path.read_text())))


def rows_of(log: str, found: dict[str, list[dict[str, Any]]]) -> Iterator[Row]:
    """Rows of one log: means and deviations over seeds; and by how much each contender beats its peer over the same seeds.

    The p-values of a log are corrected together (Holm), by metric.

    Args:
        log: name of the log.
        found: finished runs of each contender.
    """
    for name, runs in found.items():
        yield from seed_rows(log, CONTENDERS[name].title, "test", runs, METRICS)
    for metric in METRICS:
        pairs = {name: pair for name in found if len((pair := _paired(name, metric, found))[0]) > 1}
        corrected = holm({name: paired_p(*pair) for name, pair in pairs.items()})
        for name, (ours, other) in pairs.items():
            peer = CONTENDERS[CONTENDERS[name].against or name].title
            ratio = float(np.mean(ours) / np.mean(other))
            title = CONTENDERS[name].title
            yield Row(log, title, f"{metric} p", "p", corrected[name], len(ours), peer=peer, ratio=ratio)


def _paired(name: str, metric: str, found: dict[str, list[dict[str, Any]]]) -> tuple[list[float], list[float]]:
    """Values of a contender and of its peer over the seeds that both have."""
    values = [
        {run["seed"]: run["test"][metric] for run in found.get(each or "", [])} for each in (name, CONTENDERS[name].against)
    ]
    both = sorted(values[0].keys() & values[1].keys())
    return [values[0][seed] for seed in both], [values[1][seed] for seed in both]
