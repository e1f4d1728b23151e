"""The chart that people look at first, as plotly's JavaScript draws it, and the scripts that draw all charts of the pages.

The still pictures of `charts` and `history_charts` show the same where no script runs: in print and in MLflow.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jobs.base.files import write_text
from jobs.pages import templates
from jobs.pages.words import MODELS
from jobs.report.charts import BASELINE, CHALLENGER, CHAMPION
from jobs.report.headline import Gap
from jobs.report.live import AXIS, LAYOUT

SCRIPTS = ("framed.js", "plotly.min.js", "charts.js")
_COLOURS = {"challenger": CHALLENGER, "champion": CHAMPION, "baseline": BASELINE}


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
    layout = LAYOUT | {"height": 90 + 44 * parts, "scattermode": "group", "scattergap": 0.6}
    layout |= {"xaxis": AXIS | {"tickformat": "+.3~f"}, "yaxis": AXIS | {"autorange": "reversed"}}
    return {"data": data, "layout": layout}


def publish_scripts(reports: Path) -> None:
    """Put the scripts beside the pages, unless they are there already."""
    own, plotly = files(templates.__package__), files("plotly") / "package_data"
    for name in SCRIPTS:
        text = ((plotly if name.startswith("plotly") else own) / name).read_text(encoding="utf-8")
        path = reports / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            write_text(path, text)
