"""Write a cluster index to disk from a stream of labels, in memory that does not grow with the catalogue.

This is a counting sort in two passes: the first counts the groups, and the second puts every item into the next free place of
its group. Arrays as long as the catalogue are memory maps, so that memory holds only one batch and the groups.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

Labels = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class GroupCounts:
    """Items of each (primary, secondary) pair in use, in ascending order.

    Attributes:
        primary: int64 [G].
        secondary: int64 [G].
        sizes: int64 [G].
        num_items: number of items counted, including those without a cluster.
    """

    primary: np.ndarray
    secondary: np.ndarray
    sizes: np.ndarray
    num_items: int


def write_cluster_index(folder: Path, labels: Callable[[], Labels], num_primary: int) -> None:
    """Write what `ClusterIndex.from_labels(...).save(folder)` would, byte for byte.

    Args:
        folder: it is made if it does not exist.
        labels: starts a pass over the labels: (primary, secondary) of consecutive items, integer [B] each. A primary label
            below 0 means an item without a cluster. It is called twice. Each batch costs a merge of the groups, so large
            batches are faster.
        num_primary: K_p.

    Raises:
        ValueError: a label is out of range, there are more than 2^31 - 1 items, or the two passes differ.
    """
    groups = count_groups(labels(), num_primary)
    keys = groups.primary << 32 | groups.secondary
    group_offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(groups.sizes)])
    primary_offsets = group_offsets[np.searchsorted(groups.primary, np.arange(num_primary + 1))]

    folder.mkdir(parents=True, exist_ok=True)
    order = open_memmap(folder / "order.npy", "w+", np.int32, (int(group_offsets[-1]),))
    group_of_item = open_memmap(folder / "group_of_item.npy", "w+", np.int32, (groups.num_items,))
    next_place, start = group_offsets[:-1].copy(), 0
    for primary, secondary in labels():
        key = _keys(primary, secondary, num_primary)
        clustered = np.flatnonzero(key >= 0)
        group = np.searchsorted(keys, key[clustered])
        group_of_item[start : start + len(key)] = -1
        group_of_item[start + clustered] = group
        by_group = np.argsort(group, kind="stable")
        found, first, count = np.unique(group[by_group], return_index=True, return_counts=True)
        within = np.arange(len(group)) - np.repeat(first, count)
        order[np.repeat(next_place[found], count) + within] = start + clustered[by_group]
        next_place[found] += count
        start += len(key)
    if start != groups.num_items or not np.array_equal(next_place, group_offsets[1:]):
        raise ValueError("the second pass over the labels differs from the first")
    order.flush()
    group_of_item.flush()
    for name, array in (
        ("group_offsets", group_offsets),
        ("group_primary", groups.primary),
        ("group_secondary", groups.secondary),
        ("primary_offsets", primary_offsets),
    ):
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def count_groups(labels: Labels, num_primary: int) -> GroupCounts:
    """Count the items of each pair in one pass; arguments and errors as in `write_cluster_index`."""
    keys, sizes, num_items = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    for primary, secondary in labels:
        key = _keys(primary, secondary, num_primary)
        num_items += len(key)
        found, count = np.unique(key[key >= 0], return_counts=True)
        merged = np.union1d(keys, found)
        total = np.zeros(len(merged), np.int64)
        total[np.searchsorted(merged, keys)] += sizes
        total[np.searchsorted(merged, found)] += count
        keys, sizes = merged, total
    if num_items >= 2**31:
        raise ValueError(f"{num_items:,} items: the index holds at most 2^31 - 1")
    return GroupCounts(keys >> 32, keys & 0xFFFFFFFF, sizes, num_items)


def _keys(primary: np.ndarray, secondary: np.ndarray, num_primary: int) -> np.ndarray:
    """Key of each item's group, int64 [B], in the order of (primary, secondary); -1 without a cluster."""
    primary, secondary = primary.astype(np.int64), secondary.astype(np.int64)
    if len(primary) and primary.max() >= num_primary:
        raise ValueError(f"primary label {primary.max()} is not below num_primary = {num_primary}")
    clustered = primary >= 0
    if ((secondary < 0) | (secondary >= 2**31))[clustered].any():
        raise ValueError("a clustered item has a secondary label below 0 or above 2^31 - 1")
    return np.where(clustered, primary << 32 | secondary, -1)
