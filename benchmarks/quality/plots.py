"""Pictures of the quality benchmark: learning curves of every method, and the effect of ESANS's own numbers."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.quality.methods import CONTENDERS, SWEEPS
from benchmarks.quality.plan import OURS

mpl.use("Agg")
from matplotlib import pyplot as plt


def hardness(title: str, table: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Validation recall, hardness and false-negative rate by epoch, mean over seeds."""
    panels = [("validation_recall_50", "validation Recall@50"), ("hardness", "mean cosine of user and negative")]
    if any("false_negatives" in run["epochs"][0] for runs in table.values() for run in runs):
        panels.append(("false_negatives", "share of negatives the user truly likes"))
    figure, axes = plt.subplots(1, len(panels), figsize=(5.2 * len(panels) + 2, 4.2), constrained_layout=True)
    styles = iter([(colour, style) for style in ("-", "--") for colour in mpl.colormaps["tab10"].colors])  # type: ignore[attr-defined]
    for method, runs in table.items():
        colour, style = next(styles)
        length = min(len(run["epochs"]) for run in runs)
        for axis, (field, label) in zip(axes, panels, strict=True):
            mean = np.mean([[epoch.get(field, np.nan) for epoch in run["epochs"][:length]] for run in runs], axis=0)
            axis.plot(range(1, length + 1), mean, style, color=colour, label=CONTENDERS[method].title, linewidth=1.4)
            axis.set(title=label, xlabel="epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)
    _save(figure, title, path)


def sweeps(title: str, changed: dict[str, list[float]], path: Path) -> None:
    """Hold-out Recall@50 against each number of ESANS that was varied, mean and sd over seeds, like Figure 4 of the paper.

    Args:
        title: title of the whole picture.
        changed: values by seed of the whole method (`OURS`) and of ablations; a sweep without finished ones is left out.
        path: PNG file to write.
    """
    points = [{at: changed[sweep.name(at)] for at in sweep.changes if sweep.name(at) in changed} for sweep in SWEEPS]
    shown = [(sweep, found) for sweep, found in zip(SWEEPS, points, strict=True) if found]
    if not shown:
        return
    mean, sd = np.mean(changed[OURS]), np.std(changed[OURS], ddof=1)
    figure, axes = plt.subplots(
        1, len(shown), figsize=(2.9 * len(shown) + 0.6, 3.2), sharey=True, squeeze=False, constrained_layout=True
    )
    for axis, (sweep, found) in zip(axes[0], shown, strict=True):
        axis.axhspan(mean - sd, mean + sd, color="#2f5d8c", alpha=0.12, linewidth=0)
        axis.axhline(mean, color="#2f5d8c", linewidth=1, linestyle="--", label="as tuned")
        if sweep.usual is not None:
            found = found | {sweep.usual: changed[OURS]}
        at = sorted(found)
        means, errors = ([float(of(found[value])) for value in at] for of in (np.mean, lambda seeds: np.std(seeds, ddof=1)))
        axis.errorbar(at, means, errors, color="#2f5d8c", marker="o", markersize=4, linewidth=1.4, capsize=3)
        axis.set(title=sweep.label, xticks=at)
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("Recall@50")
    axes[0][0].legend(fontsize=7)
    _save(figure, title, path)


def _save(figure: Figure, title: str, path: Path) -> None:
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
