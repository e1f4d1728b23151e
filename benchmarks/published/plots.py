"""Picture of the published benchmark: how validation goes epoch by epoch."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.ticker import MaxNLocator

from benchmarks.published.table import NAMES

mpl.use("Agg")
from matplotlib import pyplot as plt


def curves(title: str, metric: str, found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """The main metric on validation by epoch: a thin line for each seed, a thick one for their mean.

    Args:
        title: title of the picture.
        metric: name of the main metric.
        found: label -> finished runs.
        path: PNG file to write.
    """
    figure, axis = plt.subplots(figsize=(6.4, 3.6), constrained_layout=True)
    for label, colour in zip(found, mpl.colormaps["tab10"].colors, strict=False):  # type: ignore[attr-defined]
        lines = [[epoch[metric] for epoch in run["epochs"]] for run in found[label]]
        for line in lines:
            axis.plot(range(1, len(line) + 1), line, color=colour, linewidth=0.6, alpha=0.5)
        shortest = min(map(len, lines))
        mean = np.mean([line[:shortest] for line in lines], axis=0)
        axis.plot(range(1, shortest + 1), mean, color=colour, linewidth=2, label=f"{label}, mean of {len(lines)}")
    axis.set(title=title, xlabel="epoch", ylabel=f"validation {NAMES[metric]}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
