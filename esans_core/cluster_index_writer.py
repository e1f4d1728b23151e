"""Write a cluster index to disk from a stream of labels, in memory that does not grow with the catalogue.

A counting sort in two passes: count the groups, then put every item into the next free place of its group. The arrays as
long as the catalogue are memory maps, so that only one batch and the groups are held.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

Labels = Iterable[tuple[np.ndarray, np.ndarray]]


def write_cluster_index(folder: Path, labels: Callable[[], Labels], num_primary: int) -> None:
    """Write what `ClusterIndex.from_labels(...).save(folder)` would, byte for byte.

    Args:
        folder: made where it is not there.
        labels: starts a pass over the labels: (primary, secondary) of consecutive items, integer [B] each; a primary label
            below 0 is an item without a cluster. Called twice. Large batches are fast: each costs a merge of the groups.
        num_primary: K_p.

    Raises:
        ValueError: a label is out of range, there are more than 2^31 - 1 items, or the two passes differ.
    """
    keys, sizes, num_items = _count_groups(labels(), num_primary)
    group_primary, group_secondary = keys >> 32, keys & 0xFFFFFFFF
    group_offsets = _offsets(sizes)
    primary_offsets = group_offsets[np.searchsorted(group_primary, np.arange(num_primary + 1))]

    folder.mkdir(parents=True, exist_ok=True)
    order = open_memmap(folder / "order.npy", "w+", np.int32, (int(group_offsets[-1]),))
    group_of_item = open_memmap(folder / "group_of_item.npy", "w+", np.int32, (num_items,))
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
    if start != num_items or not np.array_equal(next_place, group_offsets[1:]):
        raise ValueError("the second pass over the labels differs from the first")
    order.flush()
    group_of_item.flush()
    for name, array in (
        ("group_offsets", group_offsets),
        ("group_primary", group_primary),
        ("group_secondary", group_secondary),
        ("primary_offsets", primary_offsets),
    ):
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def _count_groups(labels: Labels, num_primary: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Key and size of each group, int64 [G] in ascending order of keys, and the number of items."""
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
    return keys, sizes, num_items


def _keys(primary: np.ndarray, secondary: np.ndarray, num_primary: int) -> np.ndarray:
    """Key of each item's group, int64 [B], in the order of (primary, secondary); -1 without a cluster."""
    primary, secondary = primary.astype(np.int64), secondary.astype(np.int64)
    if len(primary) and primary.max() >= num_primary:
        raise ValueError(f"primary label {primary.max()} is not below num_primary = {num_primary}")
    clustered = primary >= 0
    if ((secondary < 0) | (secondary >= 2**31))[clustered].any():
        raise ValueError("a clustered item has a secondary label below 0 or above 2^31 - 1")
    return np.where(clustered, primary << 32 | secondary, -1)


def _offsets(sizes: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
