"""The charts for plotly say what the stills say."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.base.cutoffs import Cutoffs
from jobs.report import charts, history_charts


def _read(chart: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    whole = json.loads(json.dumps(chart, allow_nan=False))  # what a page can hold
    return whole["data"], whole["layout"]


def test_lines_hold_every_value_and_a_gap_where_there_is_none(tmp_path: Path) -> None:
    epochs = [{"epoch": n, "train_loss": loss, "validation_recall_50": 0.1 * n} for n, loss in ((1, 5.0), (2, None), (3, 2.5))]
    data, layout = _read(charts.learning_curves({"challenger": epochs, "baseline": epochs[:2]}, tmp_path / "a.png"))
    loss, other, recall, _ = data
    assert (loss["x"], loss["y"]) == ([1, 2, 3], [5.0, None, 2.5]) and loss["xaxis"] == "x" and other["x"] == [1, 2]
    assert recall["y"] == pytest.approx([0.1, 0.2, 0.3]) and (recall["xaxis"], recall["yaxis"]) == ("x2", "y2")
    assert [series["showlegend"] for series in data] == [True, True, False, False]  # each model once
    assert layout["xaxis"]["dtick"] == 1 and layout["grid"]["columns"] == 2
    assert [title["text"] for title in layout["annotations"]][1] == "<b>Validation Recall@50</b>"
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_bars_stand_side_by_side_over_their_names(tmp_path: Path) -> None:
    cutoffs = Cutoffs.for_catalogue(100_000)
    values = dict.fromkeys(cutoffs.of_users, 0.25)
    models = {"challenger": values, "baseline": values | {cutoffs.recall: None}, "champion": None}
    data, layout = _read(charts.metric_bars(models, cutoffs, tmp_path / "b.png"))
    own, other = data
    assert own["y"] == [0.25] * len(values) and other["y"].count(None) + other["y"].count(0.0) == 1
    gaps = np.array(other["x"]) - np.array(own["x"])
    assert gaps == pytest.approx(gaps[0]) and gaps[0] >= own["width"][0]
    assert layout["xaxis"]["ticktext"][0] == cutoffs.labels[cutoffs.recall] and layout["yaxis"]["rangemode"] == "tozero"


def test_levels_and_logarithmic_axes_stay_what_they_are(tmp_path: Path) -> None:
    data, layout = _read(charts.cluster_sizes(np.array([3, 9, 6]), np.array([1, 2, 2, 8, 5]), tmp_path / "c.png"))
    assert data[0]["y"] == [9, 6, 3] and layout["shapes"][0]["y0"] == 6  # the mean
    assert layout["xaxis2"]["type"] == "log" and sum(data[1]["y"]) == 2 * 5  # two corners a bar
    data, layout = _read(charts.popularity_curve(np.array([0, 4, 1, 9]), tmp_path / "d.png"))
    assert data[0]["y"] == [9, 4, 1] and layout["xaxis"]["type"] == layout["yaxis"]["type"] == "log"


def test_dates_are_dates_and_a_promotion_is_a_ring(tmp_path: Path) -> None:
    cutoffs = Cutoffs.for_catalogue(100_000)
    found = {cutoffs.recall: 0.3, cutoffs.ndcg: 0.2}
    rows = [
        {"date": dt.date(2026, 1, day), "cutoffs": cutoffs, "models": {"challenger": found}, "verdict": {"verdict": verdict}}
        | {"profile": {"events_of_day": 70}, "moved": {}}
        for day, verdict in ((28, "promoted"), (30, "kept_champion"))
    ]
    data, layout = _read(history_charts.quality_chart(rows, tmp_path / "e.png"))
    line = data[0]
    assert line["x"] == ["2026-01-28 00:00", "2026-01-29 00:00", "2026-01-30 00:00"] and line["y"] == [0.3, None, 0.3]
    (ring, _) = [series for series in data if series["marker"].get("symbol") == "circle-open"]
    assert ring["x"] == ["2026-01-28 00:00"] and layout["xaxis"]["type"] == "date"
    data, _ = _read(history_charts.input_chart(rows, tmp_path / "f.png"))
    assert data[0]["type"] == "bar" and data[0]["x"][0] == "2026-01-28 00:00" and data[0]["width"][0] > 3_600_000
