"""The two charts that people look at first, as plotly's JavaScript draws them: they can be hovered, zoomed, and fit a phone.

The still pictures of `charts` and `history_charts` show the same where no script runs: in print and in MLflow.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jobs.base.files import write_text
from jobs.pages import templates
from jobs.pages.words import MODELS
from jobs.report.charts import BASELINE, CHALLENGER, CHAMPION
from jobs.report.headline import Gap

SCRIPTS = ("framed.js", "plotly.min.js", "charts.js")
_TICKS = 5  # dates that are named below a chart
_COLOURS = {"challenger": CHALLENGER, "champion": CHAMPION, "baseline": BASELINE}
_LAYOUT: dict[str, Any] = {
    "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#26323a"},
    "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
    "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
}
_AXIS: dict[str, Any] = {"automargin": True, "gridcolor": "#e6eaec", "zerolinecolor": "#46525a"}


def comparison_chart(gaps: Sequence[Gap]) -> dict[str, Any] | None:
    """Data and layout of the comparison with champion and baseline; None if there is nothing to compare."""
    data = []
    for opponent in dict.fromkeys(gap.opponent for gap in gaps):
        shown = [gap for gap in gaps if gap.opponent == opponent]
        ends = [(gap.high, gap.low) if gap.high is not None and gap.low is not None else (gap.change,) * 2 for gap in shown]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "orientation": "h",
                "offsetgroup": opponent,
                "name": f"minus {MODELS[opponent]}",
                "x": [gap.change for gap in shown],
                "y": [gap.part for gap in shown],
                "customdata": [
                    [gap.own, gap.other, gap.relative, low, high] for gap, (high, low) in zip(shown, ends, strict=True)
                ],
                "hovertemplate": "%{y}: %{customdata[0]:.4f} against %{customdata[1]:.4f}, %{customdata[2]:+.1%}<br>"
                "difference %{x:+.4f} [%{customdata[3]:+.4f}, %{customdata[4]:+.4f}]<extra></extra>",
                "error_x": {
                    "array": [high - gap.change for gap, (high, _) in zip(shown, ends, strict=True)],
                    "arrayminus": [gap.change - low for gap, (_, low) in zip(shown, ends, strict=True)],
                    "thickness": 2,
                    "width": 0,
                },
                "marker": {"size": 9, "color": _COLOURS[opponent]},
            }
        )
    if not data:
        return None
    parts = len({gap.part for gap in gaps})
    layout = _LAYOUT | {"height": 90 + 44 * parts, "scattermode": "group", "scattergap": 0.6}
    layout |= {"xaxis": _AXIS | {"tickformat": "+.3~f"}, "yaxis": _AXIS | {"autorange": "reversed"}}
    return {"data": data, "layout": layout}


def trend_chart(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Data and layout of recall over the dates, from the rows of `collect`; None if no date was measured."""
    data = []
    for name, colour in _COLOURS.items():
        found = [(row, (row["models"].get(name) or {}).get(row["cutoffs"].recall)) for row in rows]
        points = [(row, value) for row, value in found if value is not None]
        if points:
            line = {"color": colour, "dash": "solid" if name == "challenger" else "dot"}
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": name,
                    "x": [str(row["date"]) for row, _ in points],
                    "y": [value for _, value in points],
                    "text": [str(row["verdict"].get("verdict") or "no verdict").replace("_", " ") for row, _ in points],
                    "hovertemplate": "%{x}: " + name + " %{y:.4f}<br>%{text}<extra></extra>",
                    "line": line,
                }
            )
    if not data:
        return None
    title = {"text": "recall on the hold-out of the date"}
    dates = sorted({date for series in data for date in series["x"]})
    ticks = {"nticks": _TICKS} if len(dates) > _TICKS else {"tickvals": dates}
    axes = {"xaxis": _AXIS | {"tickformat": "%Y-%m-%d"} | ticks, "yaxis": _AXIS | {"title": title}}
    return {"data": data, "layout": _LAYOUT | {"height": 340} | axes}


def publish_scripts(reports: Path) -> None:
    """Put the scripts beside the pages, unless they are there already."""
    own, plotly = files(templates.__package__), files("plotly") / "package_data"
    for name in SCRIPTS:
        text = ((plotly if name.startswith("plotly") else own) / name).read_text(encoding="utf-8")
        path = reports / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
