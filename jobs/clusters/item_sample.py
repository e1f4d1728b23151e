"""Chooses the items that alignment and codebooks are fitted on: a bounded sample that hardly changes from day to day."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from esans_core.defaults import HEAD_SHARE
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.lake.item_tables import ItemTable
from jobs.lake.views import FEATURE_TABLES, MODALITIES, feature_tables

_LEAST_SHARE = 0.01  # of the sample, for a stratum that has enough items
_NARROW_ROWS = 1 << 18  # rows read at once when vectors are not read


def sample_items(settings: PipelineSettings) -> np.ndarray:
    """Items to fit on, int64, ascending: all of them, or `clusters.max_train_items` with at least one view.

    A stratum is the items that have the same views and are in the same part of popularity, head or tail. It gives items in
    proportion to its size, but at least a hundredth of the sample if it can, so that the fit sees rare kinds of items too. The
    items with the smallest hash of their id are taken. Unlike a draw by position, this keeps nearly the same sample when the
    catalogue grows. Memory depends on the size of the sample, not on that of the catalogue.

    Raises:
        DataError: the tables of the date hold different items.
    """
    items, features = ItemTable.of(settings, "items"), feature_tables(settings)
    rows = features[MODALITIES[0]].num_rows
    if rows != items.num_rows:
        raise DataError(
            f"expected one row for each of {items.num_rows} items, got {rows} rows.",
            file=" and ".join(FEATURE_TABLES),
            column="item_index",
            remedy="run the three feature jobs of this date again: their tables must hold the items of the catalogue.",
        )
    limit = settings.clusters.max_train_items
    if items.num_rows <= limit:
        return np.arange(items.num_rows)
    head_from = _head_threshold(items)
    hash_key = f"{settings.clusters.seed % 10**16:016d}"
    strata: dict[int, _LowestHashes] = {}  # by 2 * (bit of each view) + head
    streams = [
        items.batches(["item_id", "num_train"], batch_rows=_NARROW_ROWS),
        *(table.batches(["status"], batch_rows=_NARROW_ROWS) for table in features.values()),
    ]
    for batch, *statuses in zip(*streams, strict=True):
        stratum = (batch["num_train"].to_numpy() >= head_from).astype(np.int64)
        for bit, status in enumerate(statuses, 1):
            stratum |= pc.equal(status["status"], "ok").fill_null(False).to_numpy(False).astype(np.int64) << bit
        hashes = pd.util.hash_array(batch["item_id"].to_numpy(False), hash_key=hash_key, categorize=False)
        for key in np.unique(stratum[stratum > 1]).tolist():
            inside = np.flatnonzero(stratum == key)
            strata.setdefault(key, _LowestHashes(limit)).add(hashes[inside], batch["item_index"].to_numpy()[inside])
    chosen = [strata[key] for key in sorted(strata)]
    parts = [part.lowest(quota) for part, quota in zip(chosen, quotas([part.seen for part in chosen], limit), strict=True)]
    return np.sort(np.concatenate([np.zeros(0, np.int64), *parts]))


def quotas(sizes: Iterable[int], limit: int) -> list[int]:
    """How many items of each stratum to take: `limit` in all, or everything if there is less.

    A stratum gives in proportion to its size. If that is less than a hundredth of the limit, it gives a hundredth (or all that
    it has), and the others share the rest. Shares are rounded down. The few items that remain go to the largest fractions.
    """
    size = np.array(list(sizes), np.int64)
    if size.sum() <= limit:
        return size.tolist()
    least = max(1, int(limit * _LEAST_SHARE))
    quota, shared, rest = np.zeros_like(size), np.ones(len(size), bool), limit
    while (few := shared & (size * rest < least * size[shared].sum())).any():
        quota[few], shared = np.minimum(size, least)[few], shared & ~few
        rest = limit - int(quota.sum())
    # In whole numbers, because rounding could give a stratum more than it has.
    share = np.where(shared, size * rest, 0)
    quota += share // size[shared].sum()
    largest = np.argsort(-(share % size[shared].sum()), kind="stable")[: limit - int(quota.sum())]
    quota[largest] += 1
    return quota.tolist()


def _head_threshold(items: ItemTable) -> int:
    """Fewest training events of an item of the head. Items with equal counts are all in the head or all outside."""
    counts: dict[int, int] = {}
    for batch in items.batches(["num_train"], batch_rows=_NARROW_ROWS):
        for events, number in zip(*np.unique(batch["num_train"].to_numpy(), return_counts=True), strict=True):
            counts[int(events)] = counts.get(int(events), 0) + int(number)
    wanted, found = items.num_rows * HEAD_SHARE, 0
    for events in sorted(counts, reverse=True):
        found += counts[events]
        if found >= wanted:
            return max(1, events)
    return 1


class _LowestHashes:
    """The items with the smallest hashes in a stream. It holds at most twice `limit` of them and a batch."""

    def __init__(self, limit: int) -> None:
        self.seen = 0
        self._limit = limit
        self._hashes, self._items = np.zeros(0, np.uint64), np.zeros(0, np.int64)

    def add(self, hashes: np.ndarray, items: np.ndarray) -> None:
        """Add B items, each once: hashes uint64 [B], items int64 [B]."""
        self.seen += len(items)
        self._hashes, self._items = np.concatenate([self._hashes, hashes]), np.concatenate([self._items, items])
        if len(self._items) > 2 * self._limit:
            kept = np.argpartition(self._hashes, self._limit)[: self._limit]
            self._hashes, self._items = self._hashes[kept], self._items[kept]

    def lowest(self, count: int) -> np.ndarray:
        """The `count` items with the smallest hashes, int64 [count], in the order of the hashes."""
        return self._items[np.argsort(self._hashes, kind="stable")[:count]]
