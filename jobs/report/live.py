"""A chart that was drawn once, as plotly's JavaScript draws it: its panels, lines and bars can be hovered and zoomed.

Only what our charts are made of is read from a figure: lines, bars, rings and level lines. Texts in a panel are left out.
"""

from collections.abc import Iterator
from typing import Any

import matplotlib.category
import matplotlib.collections
import matplotlib.colors
import matplotlib.dates
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

LAYOUT: dict[str, Any] = {
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#26323a"},
    "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
}
AXIS: dict[str, Any] = {"automargin": True, "gridcolor": "#e6eaec", "zerolinecolor": "#46525a"}
_DASHES = {"-": "solid", "--": "dash", ":": "dot", "-.": "dashdot"}
_PANEL, _TITLE = 300, 28  # pixels of height
_FEW_EPOCHS = 12


def live(figure: Figure) -> dict[str, Any]:
    """Data and layout of a figure, which must have been drawn.

    Returns:
        `data` and `layout` as plotly takes them. The panels are a grid, which the page stacks on a phone.
    """
    panels = figure.axes
    grid = panels[0].get_subplotspec()
    rows, columns = (1, 1) if grid is None else grid.get_gridspec().get_geometry()
    data: list[dict[str, Any]] = []
    layout = LAYOUT | {"height": 60 + _PANEL * rows, "annotations": [], "shapes": [], "hovermode": "closest"}
    if len(panels) > 1:
        layout["grid"] = {"rows": rows, "columns": columns, "pattern": "independent", "xgap": 0.14, "ygap": 0.32}
    seen: set[str] = set()
    for number, axes in enumerate(panels, start=1):
        end = "" if number == 1 else str(number)
        for series in _series(axes):
            named = series["name"] not in seen and not series["name"].startswith("_")
            seen.add(series["name"])
            shown = {"xaxis": f"x{end}", "yaxis": f"y{end}", "legendgroup": series["name"], "showlegend": named}
            data.append(series | shown)
        layout[f"xaxis{end}"], layout[f"yaxis{end}"] = _axis(axes, "x"), _axis(axes, "y")
        where = {"xref": f"x{end} domain", "yref": f"y{end} domain", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
        title = {"text": f"<b>{axes.get_title(loc='left')}</b>", "showarrow": False, "font": {"size": 13}}
        layout["annotations"].append(where | title)
        layout["shapes"] += [
            {"type": "line", "xref": f"x{end} domain", "x0": 0, "x1": 1, "yref": f"y{end}", "y0": height, "y1": height}
            | {"line": {"color": _colour(line.get_color()), "width": 1, "dash": _dash(line)}}
            for line in axes.lines
            if _is_level(axes, line)
            for height in [float(np.asarray(line.get_ydata(), float)[0])]
        ]
    layout["barmode"] = "overlay"  # bars have their places already
    layout["legend"] = LAYOUT["legend"] | {"y": 1 + _TITLE / (layout["height"] - 60)}
    layout["margin"] = LAYOUT["margin"] | {"t": _TITLE}
    return {"data": data, "layout": layout}


def _series(axes: Axes) -> Iterator[dict[str, Any]]:
    dated = isinstance(axes.xaxis.get_major_formatter(), matplotlib.dates.DateFormatter)
    for bars in (container for container in axes.containers if isinstance(container, BarContainer)):
        yield _bars(axes, bars, dated=dated)
    for line in axes.lines:
        if not _is_level(axes, line) and len(np.atleast_1d(line.get_xdata())):
            marked = "lines+markers" if line.get_marker() not in ("None", "", " ", None) else "lines"
            yield {
                "type": "scatter",
                "mode": marked,
                "name": str(line.get_label()),
                "x": _places(line.get_xdata(orig=False), dated=dated),
                "y": _values(line.get_ydata()),
                "line": {"color": _colour(line.get_color()), "dash": _dash(line), "width": 2},
                "marker": {"size": 6},
            }
    for rings in axes.collections:
        if isinstance(rings, matplotlib.collections.PathCollection) and len(points := np.ma.getdata(rings.get_offsets())):
            yield {
                "type": "scatter",
                "mode": "markers",
                "name": str(rings.get_label()),
                "x": _places(points[:, 0], dated=dated),
                "y": _values(points[:, 1]),
                "marker": {"size": 13, "symbol": "circle-open", "color": _colour(rings.get_edgecolor()[0])},
            }


def _bars(axes: Axes, bars: BarContainer, *, dated: bool) -> dict[str, Any]:
    left = np.array([bar.get_x() for bar in bars.patches])
    width = np.array([bar.get_width() for bar in bars.patches])
    height = np.array([bar.get_height() for bar in bars.patches], float)
    colours = [_colour(bar.get_facecolor()) for bar in bars.patches]
    name = str(bars.get_label())
    if axes.get_xscale() == "log":  # a bar of plotly has one width, so the outline is drawn
        corners = np.stack([left, left, left + width, left + width], axis=1).ravel()
        tops = np.stack([0 * height, height, height, 0 * height], axis=1).ravel()
        outline = {"type": "scatter", "mode": "lines", "fill": "tozeroy", "line": {"color": colours[0], "width": 1}}
        return outline | {"name": name, "x": corners.tolist(), "y": tops.tolist()}
    days = 24 * 3600 * 1000 if dated else 1  # plotly counts the width of a bar of dates in milliseconds
    return {
        "type": "bar",
        "name": name,
        "x": _places(left + width / 2, dated=dated),
        "y": _values(height),
        "width": (width * days).tolist(),
        "marker": {"color": colours},
    }


def _axis(axes: Axes, side: str) -> dict[str, Any]:
    axis, low = (axes.xaxis, axes.get_xlim()[0]) if side == "x" else (axes.yaxis, axes.get_ylim()[0])
    found = AXIS | {"title": {"text": axis.label.get_text(), "font": {"size": 12}}, "zeroline": side == "y"}
    if axis.get_scale() == "log":
        found["type"] = "log"
    elif low == 0:
        found["rangemode"] = "tozero"
    formatter = axis.get_major_formatter()
    if isinstance(axis.get_major_locator(), matplotlib.ticker.FixedLocator | matplotlib.category.StrCategoryLocator):
        texts = [label.get_text().replace("\n", "<br>") for label in axis.get_ticklabels()]
        found |= {"tickvals": [float(place) for place in axis.get_ticklocs()], "ticktext": texts}
    elif isinstance(formatter, matplotlib.dates.DateFormatter):
        found |= {"type": "date", "tickformat": "%Y-%m-%d", "nticks": 5}
    elif axis.label.get_text() == "epoch" and axes.get_xlim()[1] <= _FEW_EPOCHS + 1:
        found["dtick"] = 1
    return found


def _is_level(axes: Axes, line: Line2D) -> bool:
    """Whether a line crosses the whole panel at one height, whatever the panel shows."""
    return line.get_transform() == axes.get_yaxis_transform(which="grid")


def _places(places: Any, *, dated: bool) -> list[Any]:
    numbers = np.asarray(places, float)
    if not dated:
        return [float(number) for number in numbers]
    return [matplotlib.dates.num2date(number).strftime("%Y-%m-%d %H:%M") for number in numbers]


def _values(values: Any) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in np.asarray(values, float)]


def _dash(line: Line2D) -> str:
    return _DASHES.get(str(line.get_linestyle()), "solid")


def _colour(colour: Any) -> str:
    return matplotlib.colors.to_hex(colour)
