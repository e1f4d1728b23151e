"""The report's charts. The same numbers give the same bytes: no dates, no random layout, no version in the file.

Most of them return what `live` makes of them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.colors
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from jobs.base.cutoffs import Cutoffs, validation_recall
from jobs.pages.words import MODELS
from jobs.report.headline import Gap
from jobs.report.live import live

CHALLENGER, CHAMPION, ANCHOR, BASELINE, POPULARITY = "#2f5d8c", "#d98e32", "#5b8a57", "#8a9a9d", "#cfd4d6"
_COLOURS = {"challenger": CHALLENGER, "champion": CHAMPION, "anchor": ANCHOR, "baseline": BASELINE, "popularity": POPULARITY}
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#9aa5ab", "axes.labelcolor": "#46525a", "axes.titlesize": 10.5, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.titlepad": 10, "xtick.color": "#46525a", "ytick.color": "#46525a",
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e6eaec", "axes.axisbelow": True, "legend.frameon": False,
    "text.color": "#26323a",
}  # fmt: skip
_MAP_POINTS = 6000


def learning_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> dict[str, Any]:
    """Training loss and validation recall by epoch, one line for each model."""
    with mpl.rc_context(STYLE):
        known = any(epoch.get(validation_recall(epochs)) is not None for epochs in curves.values() for epoch in epochs)
        figure, (loss, *rest) = figure_with(9.6, 3.4, 1 + known)
        for role, epochs in curves.items():
            numbers = [epoch["epoch"] for epoch in epochs]
            style: Any = {
                "color": _COLOURS.get(role, "#555555"),
                "label": MODELS.get(role, role),
                "marker": "o",
                "markersize": 3.5,
            }
            loss.plot(numbers, [_value(epoch.get("train_loss")) for epoch in epochs], **style)
            for recall in rest:
                recall.plot(numbers, [_value(epoch.get(validation_recall(epochs))) for epoch in epochs], **style)
        loss.set(title="Training loss (not comparable between models)", xlabel="epoch")
        depth = validation_recall([epoch for epochs in curves.values() for epoch in epochs]).rpartition("_")[2]
        for recall in rest:
            recall.set(title=f"Validation Recall@{depth}", xlabel="epoch")
        for axes in (loss, *rest):
            _epochs(axes, curves)
        figure.axes[-1].legend(loc="best")
        return save(figure, path)


def negatives_by_epoch(curves: Mapping[str, Sequence[Mapping[str, Any]]], false_means: str, path: Path) -> dict[str, Any]:
    """How hard the drawn negatives are for the model by epoch, and how much of them is false; one colour for each model."""
    with mpl.rc_context(STYLE):
        shares = [f"false_negative_{key}" for key in ("weight", "rate")]
        known = any(epoch.get(name) is not None for epochs in curves.values() for epoch in epochs for name in shares)
        figure, (hardness, *rest) = figure_with(9.6, 3.4, 1 + known)
        for role, epochs in curves.items():
            numbers, colour, label = [epoch["epoch"] for epoch in epochs], _COLOURS.get(role), MODELS.get(role, role)
            style: Any = {"color": colour, "marker": "o", "markersize": 3.5}
            hardness.plot(numbers, [_value(epoch.get("hardness")) for epoch in epochs], label=label, **style)
            for name, line, words in zip(shares, "-:", ("by weight", "as drawn"), strict=True):
                for false in rest:
                    values = [100 * _value(epoch.get(name)) for epoch in epochs]
                    false.plot(numbers, values, line, label=f"{label}, {words}", **style)
        hardness.set(title="Hardness: softmax weight of the drawn negatives", xlabel="epoch", ylim=(0, None))
        what = "that the user truly likes" if false_means == "truth" else "that the user has later"
        for false in rest:
            false.set(title=f"Negatives {what}", xlabel="epoch", ylabel="% of them", ylim=(0, None))
            false.legend(loc="best", fontsize=7.5)
        for axes in (hardness, *rest):
            _epochs(axes, curves)
        hardness.legend(loc="best")
        return save(figure, path)


def metric_bars(models: Mapping[str, Mapping[str, Any] | None], cutoffs: Cutoffs, path: Path) -> dict[str, Any]:
    """The models beside each other on every hold-out metric that users have, and for which there are any."""
    present = {name: values for name, values in models.items() if values}
    measured = [name for name in cutoffs.of_users if any(values.get(name) is not None for values in present.values())]
    names = {name: cutoffs.labels[name].replace(", ", "\n") for name in measured}
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_with(9.6, 3.4)
        width = 0.8 / max(len(present), 1)
        for place, (name, values) in enumerate(present.items()):
            heights = [_value(values.get(key)) for key in names]
            x = np.arange(len(names)) + (place - (len(present) - 1) / 2) * width
            bars = axes.bar(x, heights, width * 0.94, color=_COLOURS.get(name), label=MODELS.get(name, name))
            labels = ["" if np.isnan(height) else f"{height:.3f}".lstrip("0") for height in heights]
            axes.bar_label(bars, labels, fontsize=7, padding=1.5, color="#46525a")
        axes.set_xticks(np.arange(len(names)), list(names.values()))
        axes.tick_params(axis="x", length=0)
        axes.set_title("Hold-out metrics, same users for every model")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5)
        axes.margins(y=0.16)
        return save(figure, path)


def comparison(gaps: Sequence[Gap], path: Path) -> None:
    """How far the challenger lies from champion and baseline on each metric and part, with the intervals there are."""
    parts = list(dict.fromkeys(gap.part for gap in gaps))
    opponents = list(dict.fromkeys(gap.opponent for gap in gaps))
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_with(9.6, 0.9 + 0.4 * len(parts))
        for place, opponent in enumerate(opponents):
            shift = 0.24 * (place - (len(opponents) - 1) / 2)
            for gap in (gap for gap in gaps if gap.opponent == opponent):
                height = parts.index(gap.part) + shift
                if gap.low is not None and gap.high is not None:
                    axes.hlines(height, gap.low, gap.high, color=_COLOURS[opponent], linewidth=2.2)
                axes.plot(gap.change, height, "o", color=_COLOURS[opponent], markersize=5.5)
            axes.plot([], [], "o-", color=_COLOURS[opponent], label=f"minus {MODELS[opponent]}")
        axes.axvline(0, color="#46525a", linewidth=1)
        axes.set_yticks(range(len(parts)), parts)
        axes.set_ylim(len(parts) - 0.5, -0.5)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:+.3f}"))
        axes.set_title("Today's model minus the others: left of the line it is worse, right of it better")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8.5)
        save(figure, path)


def cluster_sizes(primary: NDArray[np.int64], pairs: NDArray[np.int64], path: Path) -> dict[str, Any]:
    """Items in each primary cluster, largest first, and how many (primary, secondary) pairs have which size."""
    with mpl.rc_context(STYLE):
        figure, (left, right) = figure_with(9.6, 3.2, 2)
        left.bar(np.arange(len(primary)), np.sort(primary)[::-1], color=CHALLENGER, width=0.85)
        left.set(title=f"Items in each of {len(primary)} primary clusters", xlabel="cluster, largest first")
        left.axhline(float(primary.mean()), color=CHAMPION, linewidth=1.2, label=f"mean {primary.mean():.0f}")
        left.legend(loc="upper right")
        edges = np.unique(np.geomspace(1, pairs.max() + 1, 24).astype(int))
        right.hist(pairs, bins=[float(edge) for edge in edges], color=CHALLENGER, rwidth=0.92)
        right.set(
            title=f"Sizes of {len(pairs)} (primary, secondary) pairs", xlabel="items in the pair", ylabel="pairs", xscale="log"
        )
        right.xaxis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:.0f}"))
        right.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        right.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        right.grid(visible=False, axis="x")
        return save(figure, path)


def false_negative_rates(rates: Mapping[str, float | None], path: Path) -> dict[str, Any]:
    """Share of drawn negatives that the user in truth likes, by sampler."""
    names = {
        "uniform": "uniform", "in_batch": "in-batch", "easy": "ESANS easy\n(near clusters)",
        "hard": "ESANS hard\n(same primary,\nother secondary)",
        "same_cluster": "same primary and\nsecondary (never\ndrawn by ESANS)",
    }  # fmt: skip
    shown = {key: rate for key in names if (rate := rates.get(key)) is not None}
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_with(9.6, 3.0)
        colours = {"easy": CHALLENGER, "hard": CHALLENGER, "same_cluster": "#b8443c"}
        bars = axes.bar(
            [names[key] for key in shown],
            [100 * rate for rate in shown.values()],
            0.55,
            color=[colours.get(key, BASELINE) for key in shown],
        )
        axes.bar_label(bars, [f"{rate:.1%}" for rate in shown.values()], fontsize=8.5, padding=2)
        axes.set(title="True false-negative rate of each way to draw", ylabel="% of drawn items")
        axes.tick_params(axis="x", length=0)
        axes.margins(y=0.15)
        return save(figure, path)


def popularity_curve(num_train: NDArray[np.int64], path: Path) -> dict[str, Any]:
    """Training events of each item against its rank, on logarithmic axes."""
    counts = np.sort(num_train)[::-1]
    known = counts[counts > 0]
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_with(9.6, 2.8)
        axes.loglog(np.arange(1, len(known) + 1), known, color=CHALLENGER)
        axes.fill_between(np.arange(1, len(known) + 1), 0.8, known, color=CHALLENGER, alpha=0.12)
        top = known[: max(len(counts) // 10, 1)].sum() / max(known.sum(), 1)
        axes.set(
            title=f"A tenth of the items has {top:.0%} of the training events; {(counts == 0).sum():,} items have none",
            xlabel="rank",
            ylabel="training events",
        )
        return save(figure, path)


def item_map(vectors: NDArray[np.float32], primary: NDArray[np.int64], path: Path) -> None:
    """First two principal components of the item embeddings [N, D], coloured by primary cluster [N]."""
    step = max(1, -(-len(vectors) // _MAP_POINTS))  # an even sample of a large catalogue
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred.astype(np.float64))
    plane = directions[:, ::-1][:, :2]
    plane *= np.sign(plane[np.abs(plane).argmax(axis=0), np.arange(plane.shape[1])])  # a direction has no sign of its own
    points, labels = (centred @ plane)[::step], primary[::step]
    share = values[::-1][:2].sum() / max(values.sum(), 1e-12)
    clusters = np.unique(labels)
    # Neighbouring numbers get distant hues: steps of the golden ratio around the circle.
    colours = matplotlib.colors.hsv_to_rgb([((number * 0.618034) % 1, 0.62, 0.55 + 0.3 * (number % 2)) for number in clusters])
    with mpl.rc_context(STYLE):
        figure, (axes,) = figure_with(9.6, 6.2)
        axes.scatter(
            points[:, 0], points[:, 1], s=9, color=colours[np.searchsorted(clusters, labels)], alpha=0.75, linewidths=0
        )
        for number in clusters:
            middle = np.median(points[labels == number], axis=0)
            axes.annotate(
                str(number), (middle[0], middle[1]), fontsize=7.5, ha="center", va="center",
                bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            )  # fmt: skip
        axes.set_title(
            f"Item embeddings of the challenger, first two principal components ({share:.0%} of variance), by primary cluster"
        )
        axes.grid(visible=False)
        axes.set(xticks=[], yticks=[])
        save(figure, path)


def _epochs(axes: Axes, curves: Mapping[str, Sequence[Any]]) -> None:
    """Whole numbers below, also where there is but one."""
    axes.set_xlim(0.5, max(len(epochs) for epochs in curves.values()) + 0.5)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))


def figure_with(width: float, height: float, columns: int = 1, lines: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of this size in inches, and its axes line by line."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(lines, columns, place + 1) for place in range(columns * lines)]


def save(figure: Figure, path: Path) -> dict[str, Any]:
    """Write a PNG that says nothing but the picture; returns the same chart for `plotly`."""
    figure.savefig(path, metadata={"Software": None})
    return live(figure)


def _value(number: float | None) -> float:
    return float("nan") if number is None else float(number)
