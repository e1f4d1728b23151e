"""Pages of item pictures: what lies together in a cluster, and what the challenger finds alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from jobs.report.charts import save

CLUSTERS, GROUPS, TILES = 12, 4, 4  # rows of the cluster page, secondary clusters in each, pictures of each
QUERIES, NEIGHBOURS = 8, 10
_TILE, _CAPTION = 0.62, 0.22  # inches: a tile's width, and the room below it for a line of text
_GROUP_GAP, _LABEL = 0.25, 1.35  # widths in tiles: between groups, and of what names a line
_INK, _FAINT, _EMPTY = "#26323a", "#7a868d", "#eef1f2"
_SAME_PAIR, _SAME_PRIMARY, _OTHER = "#3a7d52", "#c98a2e", "#96a0a6"


@dataclass(frozen=True)
class ClusterRow:
    """One primary cluster on the page: its size, and item ids by secondary cluster, each largest group first."""

    primary: int
    size: int
    groups: tuple[tuple[int, tuple[str, ...]], ...]


@dataclass(frozen=True)
class NeighbourRow:
    """A query item and its nearest items, nearest first: to the challenger, and to the champion where it knows the item."""

    query: str
    neighbours: tuple[str, ...]
    before: tuple[str, ...] = ()


def choose_clusters(catalogue: pd.DataFrame) -> list[ClusterRow]:
    """Clusters spread evenly over the sizes, largest first; of each, the largest secondary groups and their popular items.

    Args:
        catalogue: item_id, num_train, primary, secondary, has_visual.
    """
    pictured = catalogue[(catalogue["primary"] >= 0) & catalogue["has_visual"]]
    sizes = catalogue[catalogue["primary"] >= 0].groupby("primary").size().sort_values(ascending=False, kind="stable")
    sizes = sizes[sizes.index.isin(pictured["primary"])]
    rows = []
    for primary in sizes.index[_spread(len(sizes), CLUSTERS)]:
        members = pictured[pictured["primary"] == primary].sort_values(["num_train", "item_id"], ascending=[False, True])
        largest = members.groupby("secondary").size().sort_values(ascending=False, kind="stable").index[:GROUPS]
        groups = tuple((int(s), tuple(members[members["secondary"] == s]["item_id"].head(TILES))) for s in largest)
        rows.append(ClusterRow(int(primary), int(sizes[primary]), groups))
    return rows


def choose_neighbours(
    catalogue: pd.DataFrame, embeddings: NDArray[np.float32], before: NDArray[np.float32] | None = None
) -> list[NeighbourRow]:
    """Query items of different clusters over the whole range of popularity, and their nearest items by inner product.

    Args:
        catalogue: item_index, item_id, num_train, primary, has_visual; sorted by item_index.
        embeddings: float32 [N, D], L2-normalised item vectors.
        before: float32 [N, D'], those of the champion, zero for an item that it does not know.
    """
    shown = catalogue[catalogue["has_visual"] & (catalogue["primary"] >= 0)]
    ranked = shown.sort_values(["num_train", "item_id"], ascending=[False, True]).drop_duplicates("primary")
    ids = catalogue["item_id"].to_numpy()
    rows = []
    for index in ranked["item_index"].to_numpy()[_spread(len(ranked), QUERIES)]:
        found = [_nearest(vectors, index) for vectors in (embeddings, before) if vectors is not None]
        rows.append(NeighbourRow(str(ids[index]), *(tuple(str(ids[place]) for place in places) for places in found)))
    return rows


def _nearest(vectors: NDArray[np.float32], index: int) -> NDArray[np.int64]:
    """Items nearest to one of them, itself aside; those without a vector are near nothing."""
    scores = np.where(vectors.any(axis=1), vectors @ vectors[index], -np.inf)
    scores[index] = -np.inf
    nearest = np.argsort(-scores, kind="stable")[:NEIGHBOURS]
    return nearest[np.isfinite(scores[nearest])] if vectors[index].any() else nearest[:0]


def cluster_page(rows: Sequence[ClusterRow], images: Mapping[str, Image.Image], path: Path) -> None:
    """One line for each primary cluster, its items side by side, grouped by secondary cluster.

    Args:
        rows: what to show.
        images: pictures by item id; an item without one gets an empty tile.
        path: PNG to write.
    """
    group = [1.0] * TILES
    widths = [_LABEL, *group]
    for _ in range(GROUPS - 1):
        widths += [_GROUP_GAP, *group]
    page = _Page(widths, [1.0] * len(rows), images)
    for line, row in enumerate(rows):
        page.text(line, 0, f"cluster {row.primary}\n{row.size:,} items")
        for place, (secondary, items) in enumerate(row.groups):
            first = 1 + place * (TILES + 1)
            for number, item in enumerate(items):
                page.tile(line, first + number, item, above=f"secondary {secondary}" if number == 0 else "")
    page.save(path)


def neighbour_page(
    rows: Sequence[NeighbourRow], images: Mapping[str, Image.Image], labels: Mapping[str, tuple[int, int]], path: Path
) -> None:
    """One line for each query: its picture, then its neighbours, marked by whether they share its clusters.

    Where there is a champion, its neighbours of the query come in a line above the challenger's.

    Args:
        rows: what to show.
        images: pictures by item id; an item without one gets an empty tile.
        labels: (primary, secondary) of every item shown.
        path: PNG to write.
    """
    compared = any(row.before for row in rows)
    heights: list[float] = []
    for row in rows:
        heights += [1.0] * (1 + bool(row.before)) + [_GROUP_GAP / 2] * compared
    page = _Page([1.0, _LABEL if compared else _GROUP_GAP, *[1.0] * NEIGHBOURS], heights, images)
    line = 0
    for row in rows:
        page.tile(line, 0, row.query, _INK, above="" if line else "query", below="{} / {}".format(*labels[row.query]))
        for model, items in (("champion", row.before), ("challenger", row.neighbours)):
            if not items and model == "champion":
                continue
            if compared:
                page.text(line, 1, model)
            for place, item in enumerate(items, start=2):
                colour = _shared(labels[item], labels[row.query])
                above = "nearest items" if line == 0 and place == 2 else ""
                page.tile(line, place, item, colour, above=above, below="{} / {}".format(*labels[item]))
            line += 1
        line += compared
    page.legend({"same secondary cluster": _SAME_PAIR, "same primary cluster": _SAME_PRIMARY, "another cluster": _OTHER})
    page.save(path)


def _shared(its: tuple[int, int], own: tuple[int, int]) -> str:
    """The colour of what an item's clusters have in common with the query's."""
    return _SAME_PAIR if its == own else _SAME_PRIMARY if its[0] == own[0] else _OTHER


class _Page:
    """A grid of pictures.

    Args:
        widths: of the columns, in tiles.
        heights: of the lines, in tiles.
        images: pictures by item id.
    """

    def __init__(self, widths: Sequence[float], heights: Sequence[float], images: Mapping[str, Image.Image]) -> None:
        self._images, self._ratio = images, _tile_ratio(images)
        tile, caption = _TILE, _CAPTION
        size = (sum(widths) * tile + 0.5, sum(heights) * (tile * self._ratio + caption) + 0.6)
        self._figure = Figure(size, dpi=130, facecolor="white")
        self._grid = self._figure.add_gridspec(
            len(heights), len(widths), width_ratios=widths, height_ratios=heights, wspace=0.1,
            hspace=caption / (tile * self._ratio), left=0.25 / size[0], right=1 - 0.25 / size[0],
            bottom=0.3 / size[1], top=1 - 0.4 / size[1],
        )  # fmt: skip

    def text(self, line: int, column: int, text: str) -> None:
        """A text in a place of the grid."""
        axes = self._axes(line, column)
        axes.axis("off")
        axes.text(0, 0.5, text, transform=axes.transAxes, va="center", fontsize=8.5, color=_INK)

    def tile(self, line: int, column: int, item: str, frame: str = "", *, above: str = "", below: str = "") -> None:
        """An item's picture in a place of the grid, with what is said above and below it."""
        axes = self._axes(line, column)
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set(visible=bool(frame), color=frame or _EMPTY, linewidth=1.6)
        picture = self._images.get(item)
        if picture is None:
            axes.set(facecolor=_EMPTY, xlim=(0, 1), ylim=(0, self._ratio), aspect="equal")
            axes.text(0.5, self._ratio / 2, "no picture", ha="center", va="center", fontsize=5.5, color=_FAINT)
        else:
            axes.imshow(picture, interpolation="lanczos")
        if above:
            axes.set_title(above, loc="left", fontsize=6.5, color=_FAINT, pad=2, weight="normal")
        axes.set_xlabel(below, fontsize=6.5, color=frame or _FAINT, labelpad=2)

    def legend(self, colours: Mapping[str, str]) -> None:
        """What the colours of the frames mean, above everything."""
        handles = [Patch(facecolor="none", edgecolor=colour, label=text) for text, colour in colours.items()]
        self._figure.legend(handles=handles, loc="upper right", ncols=len(handles), frameon=False, fontsize=7.5)

    def save(self, path: Path) -> None:
        """Write the page as PNG."""
        save(self._figure, path)

    def _axes(self, line: int, column: int) -> Axes:
        return self._figure.add_subplot(self._grid[line, column])


def _spread(available: int, wanted: int) -> NDArray[np.int64]:
    """At most so many places, evenly from the first to the last."""
    return np.unique(np.linspace(0, available - 1, min(wanted, available)).round().astype(np.int64))


def _tile_ratio(images: Mapping[str, Image.Image]) -> float:
    """Height of a tile in widths: that of the usual picture, between 3:4 (wide) and 3:2 (high)."""
    ratio = float(np.median([picture.height / picture.width for picture in images.values()])) if images else 1.0
    return min(max(ratio, 0.75), 1.5)
