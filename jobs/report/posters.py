"""Pages of item pictures: what lies together in a cluster, and what the challenger finds alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

CLUSTERS, GROUPS, TILES = 12, 4, 4  # rows of the cluster page, secondary clusters in each, pictures of each
QUERIES, NEIGHBOURS = 8, 10
_GAP, _GROUP_GAP, _LABEL, _MARGIN, _CAPTION = 5, 18, 104, 18, 17
_INK, _FAINT, _PAPER, _EMPTY = (38, 50, 58), (122, 134, 141), (255, 255, 255), (238, 241, 242)
_SAME_PAIR, _SAME_PRIMARY, _OTHER = (58, 125, 82), (201, 138, 46), (150, 160, 166)


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
    """One line for each primary cluster, its items side by side, grouped by secondary cluster."""
    tile = _tile_size(images)
    step_x, step_y = tile[0] + _GAP, tile[1] + _CAPTION + 10
    group = TILES * step_x + _GROUP_GAP
    page = _Page(2 * _MARGIN + _LABEL + GROUPS * group - _GROUP_GAP, 2 * _MARGIN + len(rows) * step_y, tile, images)
    for line, row in enumerate(rows):
        top = _MARGIN + line * step_y
        page.text((_MARGIN, top + tile[1] // 2 - 4), f"cluster {row.primary}", 14)
        page.text((_MARGIN, top + tile[1] // 2 + 14), f"{row.size:,} items", 12, _FAINT)
        for place, (secondary, items) in enumerate(row.groups):
            left = _MARGIN + _LABEL + place * group
            page.text((left, top), f"secondary {secondary}", 11, _FAINT)
            for number, item in enumerate(items):
                page.tile((left + number * step_x, top + _CAPTION), item)
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
    tile = _tile_size(images)
    compared = any(row.before for row in rows)
    step_x, step_y = tile[0] + _GAP + 3, tile[1] + _CAPTION + 12
    first = _MARGIN + step_x + (_LABEL if compared else 26)
    lines = [1 + bool(row.before) for row in rows]
    height = 2 * _MARGIN + 20 + sum(lines) * step_y + (compared * _GROUP_GAP) * (len(rows) - 1)
    page = _Page(first + NEIGHBOURS * step_x + _MARGIN, height, tile, images)
    page.text((_MARGIN, _MARGIN - 6), "query", 12)
    left = first
    for text, colour in (
        ("nearest items:", _INK), ("same secondary cluster", _SAME_PAIR), ("same primary cluster", _SAME_PRIMARY),
        ("another cluster", _OTHER),
    ):  # fmt: skip
        left += page.text((left, _MARGIN - 6), text, 12, colour) + 16
    top = _MARGIN + 20
    for row in rows:
        page.tile((_MARGIN, top), row.query, _INK)
        page.text((_MARGIN, top + tile[1] + 4), "{} / {}".format(*labels[row.query]), 11, _INK)
        for model, items in (("champion", row.before), ("challenger", row.neighbours)):
            if not items and model == "champion":
                continue
            if compared:
                page.text((_MARGIN + step_x + 12, top + tile[1] // 2 - 6), model, 12, _FAINT)
            _neighbour_line(page, (first, top), items, labels[row.query], labels)
            top += step_y
        top += compared * _GROUP_GAP
    page.save(path)


def _neighbour_line(
    page: "_Page", place: tuple[int, int], items: Sequence[str], own: tuple[int, int], labels: Mapping[str, tuple[int, int]]
) -> None:
    """Pictures side by side, each with its clusters, in the colour of what it shares with the query's."""
    (left, top), (width, height) = place, page.tile_size
    for item in items:
        its = labels[item]
        colour = _SAME_PAIR if its == own else _SAME_PRIMARY if its[0] == own[0] else _OTHER
        page.tile((left, top), item, colour)
        page.text((left, top + height + 4), f"{its[0]} / {its[1]}", 11, colour)
        left += width + _GAP + 3


class _Page:
    def __init__(self, width: int, height: int, tile: tuple[int, int], images: Mapping[str, Image.Image]) -> None:
        self._sheet = Image.new("RGB", (width, height), _PAPER)
        self._draw = ImageDraw.Draw(self._sheet)
        self.tile_size, self._images = tile, images

    def text(self, place: tuple[int, int], text: str, size: int, colour: tuple[int, int, int] = _INK) -> int:
        """Write and return the width in pixels."""
        font = ImageFont.load_default(size)
        self._draw.text(place, text, fill=colour, font=font)
        return round(font.getlength(text))

    def tile(self, place: tuple[int, int], item: str, frame: tuple[int, int, int] | None = None) -> None:
        (left, top), (width, height) = place, self.tile_size
        self._draw.rectangle((left, top, left + width - 1, top + height - 1), fill=_EMPTY)
        picture = self._images.get(item)
        if picture is None:
            self.text((left + 6, top + height // 2 - 7), "no picture", 10, _FAINT)
        else:
            scale = min(width / picture.width, height / picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            fitted = picture.resize(size, Image.Resampling.LANCZOS)
            self._sheet.paste(fitted, (left + (width - size[0]) // 2, top + (height - size[1]) // 2))
        if frame:
            self._draw.rectangle((left - 2, top - 2, left + width + 1, top + height + 1), outline=frame, width=2)

    def save(self, path: Path) -> None:
        self._sheet.save(path, "PNG", optimize=True)


def _spread(available: int, wanted: int) -> NDArray[np.int64]:
    """At most so many places, evenly from the first to the last."""
    return np.unique(np.linspace(0, available - 1, min(wanted, available)).round().astype(np.int64))


def _tile_size(images: Mapping[str, Image.Image]) -> tuple[int, int]:
    """Tiles as tall as the usual picture is, between 3:4 wide and 2:3 high."""
    ratio = float(np.median([picture.height / picture.width for picture in images.values()])) if images else 1.0
    return 72, round(72 * min(max(ratio, 0.75), 1.5))
