"""Throughput of the sampler against the size of the catalogue. The same numbers give the same picture."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.record import Row
from benchmarks.speed.sampler import ESANS
from jobs.report.charts import STYLE

_ESANS_COLOUR = "#2f5d8c"
_PEER_COLOURS = ("#8a9a9d", "#d98e32", "#6f9e6e", "#a2759c", "#c5564e", "#7a6a58", "#b5a642", "#4f9da6")


def sampler_throughput(rows: Iterable[Row], path: Path) -> None:
    """One line for each subject: negatives per second against the number of items, on logarithmic axes."""
    series: dict[str, dict[int, float]] = {}
    for row in rows:
        family, _, case = row.case.partition(": ")
        if family == "sampler" and row.metric == "throughput":
            series.setdefault(row.subject, {}).setdefault(int(case.split()[0].replace(",", "")), row.value)
    colours = iter(_PEER_COLOURS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 4.2), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for subject, points in series.items():
            ours = subject == ESANS
            axes.plot(
                list(points), list(points.values()), marker="o", markersize=5 if ours else 3.5, linewidth=2.4 if ours else 1.4,
                color=_ESANS_COLOUR if ours else next(colours), label=subject, zorder=3 if ours else 2,
            )  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="items in the catalogue", title="Negatives per second")
        figure.legend(loc="outside right center")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
