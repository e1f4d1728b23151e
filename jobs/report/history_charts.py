"""The charts of many dates: models beside each other, and how far input and model have moved."""

from collections.abc import Mapping, Sequence
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
_CALM, _SHIFT = 0.1, 0.25  # the customary bounds of a population stability index


def quality_chart(rows: Rows, path: Path) -> dict[str, Any]:
    """Recall and NDCG of each date's models, at the first depth of the date; a ring where the challenger was promoted."""
    with mpl.rc_context(STYLE):
        figure, axes_list = figure_with(9.6, 3.6, 2)
        depths = "/".join(str(k) for k in sorted({row["cutoffs"].first for row in rows}))
        for axes, title in zip(axes_list, ("Recall", "NDCG"), strict=True):
            measured = [_named(row, title) for row in rows]
            for name, (colour, line) in _MODELS.items():
                values = _series(measured, name)
                axes.plot(*values, line, color=colour, label=name, marker="o", markersize=3.5)
            promoted = [row for row in rows if row["verdict"].get("verdict") == PROMOTED]
            days = [row["date"] for row in promoted]
            heights = [_value(_named(row, title), "challenger") for row in promoted]
            ring: Any = {"facecolors": "none", "edgecolors": CHALLENGER, "linewidths": 1.4}
            axes.scatter(days, heights, s=90, label="promoted", **ring)
            _dates(axes, rows)
            axes.set_title(f"{title}@{depths} on the hold-out of the date")
        axes_list[0].legend(loc="best", fontsize=8)
        return save(figure, path)


def input_chart(rows: Rows, path: Path) -> dict[str, Any]:
    """Events of the day, new items, items with each view, and how far distributions moved from the date before."""
    with mpl.rc_context(STYLE):
        figure, (events, new, views, moved) = figure_with(9.6, 6.4, 2, 2)
        events.bar(*_series(rows, "profile", "events_of_day"), color=CHALLENGER, width=0.7)
        events.set_title("Events of the date")
        new.bar(*_series(rows, "profile", "new_items", times=100), color=CHALLENGER, width=0.7)
        new.set(title="Items that the date before did not have", ylabel="% of items")
        for view, colour in _VIEWS.items():
            values = _series(rows, "profile", "views", view, times=100)
            views.plot(*values, color=colour, label=view, marker="o", markersize=3.5)
        views.set(title="Items with each view", ylabel="% of items", ylim=(0, 103))
        views.legend(loc="lower left", fontsize=8, ncols=3)
        names = sorted({name for row in rows for name in row["moved"]})
        for name, colour in zip(names, _PARTS, strict=False):
            moved.plot(*_series(rows, "moved", name), color=colour, label=name, marker="o", markersize=3.5)
        moved.axhline(_SHIFT, color="#b8443c", linewidth=0.9, linestyle="--")
        moved.axhline(_CALM, color="#b0701a", linewidth=0.9, linestyle="--")
        highest = max([_SHIFT, *(value for row in rows for value in row["moved"].values())])
        moved.set(title="Distributions: stability index to the date before", ylim=(0, 1.5 * highest))
        if names:
            moved.legend(loc="upper left", fontsize=8, ncols=2)
        for axes in (events, new, views, moved):
            _dates(axes, rows)
        return save(figure, path)


def model_chart(rows: Rows, path: Path) -> dict[str, Any]:
    """How far embeddings, clusters and codes moved from the date before."""
    panels = (
        ("Embeddings: cosine after turning", ("embeddings", "cosine"), ""),
        ("Items that changed their cluster", ("churn", "primary"), "% of unchanged items"),
        ("Codes: mean way moved", ("centroids", "moved"), "% of their spread"),
    )
    with mpl.rc_context(STYLE):
        figure, axes_list = figure_with(9.6, 3.0, 3)
        for axes, (title, keys, unit) in zip(axes_list, panels, strict=True):
            values = _series(rows, "profile", *keys, times=100 if unit else 1)
            axes.plot(*values, color=CHALLENGER, marker="o", markersize=3.5)
            axes.set(title=title, ylabel=unit)
            axes.set_ylim(0, 1.03 if not unit else max(axes.get_ylim()[1], 1))
            _dates(axes, rows)
        return save(figure, path)


def _named(row: Mapping[str, Any], title: str) -> dict[str, Any]:
    """The date of a row, and each model's recall or NDCG."""
    metric = row["cutoffs"].recall if title == "Recall" else row["cutoffs"].ndcg
    return {"date": row["date"]} | {name: (values or {}).get(metric) for name, values in row["models"].items()}


def _series(rows: Rows, *keys: str, times: float = 1) -> tuple[NDArray[np.datetime64], NDArray[np.float64]]:
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
