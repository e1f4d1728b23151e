"""Time and memory of a day's steps against the size of the catalogue. The same numbers give the same picture."""

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.record import Row
from jobs.report.charts import STYLE

_COLOURS = ("#2f5d8c", "#d98e32", "#6f9e6e", "#a2759c", "#c5564e", "#7a6a58")
_PANELS = {"time for each item": "Microseconds for each item", "peak memory of the driver": "Peak memory of the driver, MB"}


def steps(rows: Iterable[Row], path: Path) -> None:
    """One line for each step, one panel for time and one for memory. The flatter the lines, the better."""
    series: dict[str, dict[str, dict[int, float]]] = {metric: {} for metric in _PANELS}
    for row in rows:
        family, _, case = row.case.partition(": ")
        if family == "daily" and row.metric in _PANELS:
            series[row.metric].setdefault(row.subject, {})[int(case.split()[0].replace(",", ""))] = row.value
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10.4, 4.0), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(_PANELS))
        for axes, (metric, title) in zip(panels, _PANELS.items(), strict=True):
            for colour, (step, points) in zip(_COLOURS, series[metric].items(), strict=False):
                axes.plot(list(points), list(points.values()), marker="o", markersize=4, color=colour, label=step)
            axes.set(xscale="log", xlabel="items in the catalogue", title=title)
            axes.set_ylim(bottom=0)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})
