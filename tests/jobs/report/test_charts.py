"""Charts on which every value can be read: nothing covers it, and there is no place for what was not measured."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from jobs.base.cutoffs import Cutoffs
from jobs.report import charts
from jobs.report.headline import Gap


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that a chart would have written."""
    figures: list[Figure] = []
    monkeypatch.setattr(charts, "save", lambda figure, path: figures.append(figure))
    return figures


def test_the_legend_covers_no_bar_and_what_nobody_has_has_no_place(drawn: list[Figure]) -> None:
    cutoffs = Cutoffs.for_catalogue(300)
    recall, ndcg, *parts = cutoffs.of_users
    values = {recall: 0.15, ndcg: 0.06} | dict.fromkeys(parts[:-1], 0.25) | {parts[-1]: None}
    charts.metric_bars(
        {"challenger": values, "baseline": values, "champion": None, "popularity": {recall: 0.1}}, cutoffs, Path()
    )
    (figure,) = drawn
    figure.canvas.draw()
    (axes,) = figure.axes
    legend = axes.get_legend().get_window_extent()
    assert not any(legend.overlaps(bar.get_window_extent()) for bar in axes.patches if bar.get_height() > 0)
    shown = [label.get_text().replace("\n", ", ") for label in axes.get_xticklabels()]
    assert shown == [cutoffs.labels[name] for name in cutoffs.of_users[:-1]]


def test_the_legend_of_the_curves_covers_no_point(drawn: list[Figure]) -> None:
    epochs = [{"epoch": 1, "train_loss": 5.9, "validation_recall_30": 0.119}, {"epoch": 2, "train_loss": 5.6}]
    epochs[1]["validation_recall_30"] = 0.112
    flat = [epoch | {"validation_recall_30": 0.126} for epoch in epochs]
    charts.learning_curves({"challenger": flat, "baseline": epochs}, Path())
    (figure,) = drawn
    figure.canvas.draw()
    recall = figure.axes[1]
    box = recall.get_legend().get_window_extent()
    points = [point for line in recall.lines for point in recall.transData.transform(line.get_xydata())]
    assert len(points) == 4 and not any(box.contains(*point) for point in points)


def test_small_differences_have_an_axis_of_different_numbers(drawn: list[Figure]) -> None:
    gaps = [Gap("Recall@50", "baseline", 0.1353, 0.1332, low, high) for low, high in ((0.0, 0.0043), (-0.009, 0.011))]
    charts.comparison(gaps, Path())
    drawn[0].canvas.draw()
    shown = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert len(shown) > 3 and len(set(shown)) == len(shown)


def test_a_panel_for_which_nothing_was_measured_is_left_out(drawn: list[Figure]) -> None:
    epochs = [{"epoch": number, "train_loss": 5.0, "hardness": 0.1} for number in (1, 2)]
    charts.learning_curves({"challenger": epochs}, Path())
    charts.negatives_by_epoch({"challenger": epochs}, "later_event", Path())
    assert [[axes.get_title(loc="left").split(":")[0] for axes in figure.axes] for figure in drawn] == [
        ["Training loss (not comparable between models)"],
        ["Hardness"],
    ]
