"""The charts of a search: how it went, and which values of each setting were good."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes

from jobs.report.charts import BASELINE, CHALLENGER, CHAMPION, STYLE, figure_with, save
from jobs.tuning.space import SEARCHED, Range

Trials = Sequence[Mapping[str, Any]]
_COLUMNS = 3
_WORDS = {"training": "", "sampling": "sampling: "}


def history_chart(trials: Trials, label: str, path: Path) -> None:
    """The recall of each trial in the order of the search, and the best so far.

    Args:
        trials: rows of `proposal.json`.
        label: how people read the recall.
        path: the PNG to write.
    """
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_with(9.6, 3.4)
        _points(axes, trials, lambda row: row["number"])
        numbers = [row["number"] for row in trials]
        best = np.maximum.accumulate([row["recall"] if row["state"] == "finished" else 0.0 for row in trials])
        axes.step(numbers, np.where(best > 0, best, np.nan), where="post", color=CHALLENGER, linewidth=1.2, label="best so far")
        axes.set(title=f"{label} on validation, trial by trial", xlabel="trial")
        axes.set_xlim(-0.5, max(numbers) + 0.5)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, ncols=4, borderaxespad=0.2)
        save(figure, path)


def settings_chart(trials: Trials, names: Sequence[str], label: str, path: Path) -> None:
    """The recall of each trial against its value of each setting that was searched.

    Args:
        trials: rows of `proposal.json`.
        names: of the settings.
        label: how people read the recall.
        path: the PNG to write.
    """
    lines = -(-len(names) // _COLUMNS)
    with mpl.rc_context(STYLE):
        figure, all_axes = figure_with(9.6, 2.6 * lines, _COLUMNS, lines)
        figure.get_layout_engine().set(h_pad=0.08)  # type: ignore[union-attr, call-arg]
        for axes, name in zip(all_axes, names, strict=False):
            _setting(axes, trials, name)
        for axes in all_axes[len(names) :]:
            axes.set_visible(False)
        for axes in all_axes[::_COLUMNS]:
            axes.set_ylabel(label)
        save(figure, path)


def _setting(axes: Axes, trials: Trials, name: str) -> None:
    section, _, field = name.partition(".")
    axes.set_title(_WORDS[section] + field.replace("_", " "))
    part = SEARCHED[name]
    if isinstance(part, Range):
        _points(axes, trials, lambda row: row["values"][name])
        values = [row["values"][name] for row in trials if name in row["values"]]
        low, high = min(part.low, *values), max(part.high, *values)
        if not part.log:
            axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        else:
            axes.set_xscale("log")
            axes.set_xlim(low / 1.1, high * 1.1)
            ticks = (1, 2, 5) if high / low < 50 else (1, 3) if high / low < 500 else (1,)  # as many as there is room for
            axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=ticks))
            axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        return
    values = sorted({row["values"][name] for row in trials if name in row["values"]})
    places = {value: place for place, value in enumerate(values)}
    _points(axes, trials, lambda row: places[row["values"][name]])
    axes.set_xlim(-0.5, len(values) - 0.5)
    axes.set_xticks(range(len(values)), [f"{value:,}" if isinstance(value, int) else str(value) for value in values])


def _points(axes: Axes, trials: Trials, place: Any) -> None:
    """A point for each trial: filled if it was finished, a cross if it was given up before, a diamond for today's settings."""
    kinds = (
        ("finished", "finished", False, CHALLENGER, "o", 30),
        ("given up early", "pruned", False, BASELINE, "x", 26),
        ("today's settings", "finished", True, CHAMPION, "D", 52),
    )
    for label, state, today, colour, marker, size in kinds:
        rows = [row for row in trials if row["recall"] is not None and (row["state"], row["today"]) == (state, today)]
        if rows:
            x, y = [place(row) for row in rows], [row["recall"] for row in rows]
            axes.scatter(x, y, s=size, color=colour, marker=marker, label=label, zorder=3, linewidths=1.2)
