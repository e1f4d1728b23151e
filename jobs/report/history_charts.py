"""The charts of many dates: models beside each other, and how far input and model have moved."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.dates
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from jobs.base.verdicts import PROMOTED
from jobs.report.charts import BASELINE, CHALLENGER, CHAMPION, STYLE, figure_with, save

Rows = Sequence[Mapping[str, Any]]
_MODELS = {"challenger": (CHALLENGER, "-"), "champion": (CHAMPION, "--"), "baseline": (BASELINE, ":")}
_VIEWS = {"visual": "#2f5d8c", "text": "#d98e32", "behaviour": "#5b8a57"}
_PARTS = ("#2f5d8c", "#d98e32", "#5b8a57", "#8d5b8a")
Series = tuple[NDArray[np.datetime64], NDArray[np.float64]]
_CALM, _SHIFT = 0.1, 0.25  # the customary bounds of a population stability index


@dataclass(frozen=True)
class Panel:
    """One panel of a chart: the series that it shows, and what draws them."""

    series: Sequence[Series]
    draw: Callable[[Axes], None]


def quality_chart(rows: Rows, path: Path) -> dict[str, Any] | None:
    """Recall and NDCG of each date's models, at the first depth of the date; a ring where the challenger was promoted.

    This and the other charts leave out panels for which no date has a value, and are None and not drawn without any panel.
    """
    depths = "/".join(str(k) for k in sorted({row["cutoffs"].first for row in rows}))

    def panel(title: str) -> Panel:
        measured = [_named(row, title) for row in rows]

        def draw(axes: Axes) -> None:
            for name, (colour, line) in _MODELS.items():
                if _any(values := _series(measured, name)):
                    axes.plot(*values, line, color=colour, label=name, marker="o", markersize=3.5)
            promoted = [row for row in rows if row["verdict"].get("verdict") == PROMOTED]
            if promoted:
                days = [row["date"] for row in promoted]
                heights = [_value(_named(row, title), "challenger") for row in promoted]
                ring: Any = {"facecolors": "none", "edgecolors": CHALLENGER, "linewidths": 1.4}
                axes.scatter(days, heights, s=90, label="promoted", **ring)
            axes.set_title(f"{title}@{depths} on the hold-out of the date")
            axes.legend(loc="best", fontsize=8)

        return Panel([_series(measured, name) for name in _MODELS], draw)

    return _chart(rows, path, [panel("Recall"), panel("NDCG")], height=3.6)


def input_chart(rows: Rows, path: Path) -> dict[str, Any] | None:
    """Events of the day, new items, items with each view, and how far distributions moved from the date before."""
    events, new = _series(rows, "profile", "events_of_day"), _series(rows, "profile", "new_items", times=100)
    views = {view: _series(rows, "profile", "views", view, times=100) for view in _VIEWS}
    moved = {name: _series(rows, "moved", name) for name in sorted({name for row in rows for name in row["moved"]})}

    def draw_events(axes: Axes) -> None:
        axes.bar(*events, color=CHALLENGER, width=0.7)
        axes.set_title("Events of the date")

    def draw_new(axes: Axes) -> None:
        axes.bar(*new, color=CHALLENGER, width=0.7)
        axes.set(title="Items that the date before did not have", ylabel="% of items")

    def draw_views(axes: Axes) -> None:
        for view, colour in _VIEWS.items():
            if _any(views[view]):
                axes.plot(*views[view], color=colour, label=view, marker="o", markersize=3.5)
        axes.set(title="Items with each view", ylabel="% of items", ylim=(0, 103))
        axes.legend(loc="lower left", fontsize=8, ncols=3)

    def draw_moved(axes: Axes) -> None:
        for (name, values), colour in zip(moved.items(), _PARTS, strict=False):
            axes.plot(*values, color=colour, label=name, marker="o", markersize=3.5)
        axes.axhline(_SHIFT, color="#b8443c", linewidth=0.9, linestyle="--")
        axes.axhline(_CALM, color="#b0701a", linewidth=0.9, linestyle="--")
        highest = max([_SHIFT, *(value for row in rows for value in row["moved"].values())])
        axes.set(title="Distributions: stability index to the date before", ylim=(0, 1.5 * highest))
        axes.legend(loc="upper left", fontsize=8, ncols=2)

    panels = [Panel([events], draw_events), Panel([new], draw_new)]
    panels += [Panel(list(views.values()), draw_views), Panel(list(moved.values()), draw_moved)]
    return _chart(rows, path, panels, height=3.2)


def model_chart(rows: Rows, path: Path) -> dict[str, Any] | None:
    """How far embeddings, clusters and codes moved from the date before."""

    def panel(title: str, keys: tuple[str, str], unit: str) -> Panel:
        values = _series(rows, "profile", *keys, times=100 if unit else 1)

        def draw(axes: Axes) -> None:
            axes.plot(*values, color=CHALLENGER, marker="o", markersize=3.5)
            axes.set(title=title, ylabel=unit)
            axes.set_ylim(0, 1.03 if not unit else max(axes.get_ylim()[1], 1))

        return Panel([values], draw)

    panels = [
        panel("Embeddings: cosine after turning", ("embeddings", "cosine"), ""),
        panel("Items that changed their cluster", ("churn", "primary"), "% of unchanged items"),
        panel("Codes: mean way moved", ("centroids", "moved"), "% of their spread"),
    ]
    return _chart(rows, path, panels, height=3.0)


def _chart(rows: Rows, path: Path, panels: Sequence[Panel], *, height: float) -> dict[str, Any] | None:
    """Draw the panels that have a value; None without any."""
    shown = [panel for panel in panels if any(_any(values) for values in panel.series)]
    if not shown:
        return None
    columns = len(shown) if len(shown) < 4 else 2
    lines = -(-len(shown) // columns)
    with mpl.rc_context(STYLE):
        figure, axes_list = figure_with(9.6, height * lines, columns, lines)
        for panel, axes in zip(shown, axes_list, strict=True):
            panel.draw(axes)
            _dates(axes, rows)
        return save(figure, path)


def _any(series: Series) -> bool:
    return bool(np.isfinite(series[1]).any())


def _named(row: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The date of a row, and each model's recall or NDCG."""
    metric = row["cutoffs"].recall if title == "Recall" else row["cutoffs"].ndcg
    return {"date": row["date"]} | {name: (values or {}).get(metric) for name, values in row["models"].items()}


def _series(rows: Rows, *keys: str, times: float = 1) -> Series:
    """A value of every day between the first and the last date: not a number, and so a gap, where it has none."""
    first, last = rows[0]["date"], rows[-1]["date"]
    values = np.full((last - first).days + 1, np.nan)
    for row in rows:
        values[(row["date"] - first).days] = times * _value(row, *keys)
    return np.datetime64(first) + np.arange(len(values)), values


def _value(row: Mapping[str, Any], *keys: str) -> float:
    found: Any = row
    for key in keys:
        found = (found or {}).get(key)
    return float("nan") if found is None else float(found)


def _dates(axes: Axes, rows: Rows) -> None:
    first, last = (float(matplotlib.dates.date2num(row["date"])) for row in (rows[0], rows[-1]))
    axes.set_xlim(first - 0.7, last + 0.7)
    days = matplotlib.dates.DayLocator() if last - first < 5 else matplotlib.dates.AutoDateLocator(minticks=3, maxticks=6)
    axes.xaxis.set_major_locator(days)
    axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%m-%d" if last - first < 300 else "%Y-%m"))
