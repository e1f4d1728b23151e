"""Reads the labels of the table `clusters` as a stream, and describes them for the daily report."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from esans_core.clusters.cluster_index_writer import count_groups
from esans_core.clusters.cluster_quality import quality_of_sizes
from esans_core.clusters.codebooks import Codebooks
from jobs.lake.item_tables import ItemTable
from jobs.lake.views import MODALITIES

_ROWS = 1 << 20  # labels held at once: 8 MB


def stream_labels(clusters: ItemTable) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Primary and secondary label of consecutive items, int32 [B] each."""
    for batch in clusters.batches(["primary", "secondary"], batch_rows=_ROWS):
        yield batch["primary"].to_numpy(), batch["secondary"].to_numpy()


def describe_labels(clusters: ItemTable, codebooks: Codebooks) -> dict[str, Any]:
    """Sizes, balance, empty and retired codes, distortion, and items by view. Memory does not grow with the items."""
    squared, with_view = 0.0, dict.fromkeys(MODALITIES, 0)

    def labels() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal squared
        columns = ["primary", "secondary", "distance", *(f"has_{name}" for name in MODALITIES)]
        for batch in clusters.batches(columns, batch_rows=_ROWS):
            distance = batch["distance"].drop_null().to_numpy().astype(np.float64)
            squared += float(distance @ distance)
            for name in MODALITIES:
                with_view[name] += batch[f"has_{name}"].true_count
            yield batch["primary"].to_numpy(), batch["secondary"].to_numpy()

    num_primary, num_secondary = len(codebooks.primary_PD), codebooks.secondary_CSE.shape[1]
    groups = count_groups(labels(), num_primary)
    primary, secondary = np.zeros(num_primary, np.int64), np.zeros(num_secondary, np.int64)
    np.add.at(primary, groups.primary, groups.sizes)
    np.add.at(secondary, groups.secondary, groups.sizes)
    clustered = int(primary.sum())
    alone = np.bincount(groups.primary, minlength=num_primary) == 1
    return {
        "items": groups.num_items,
        "without_view": groups.num_items - clustered,
        "items_per_view": with_view,
        "primary": asdict(quality_of_sizes(primary, squared / clustered if clustered else None)),
        "retired": int((~codebooks.active_P).sum()),
        "secondary": asdict(quality_of_sizes(secondary)),
        "pairs_in_use": len(groups.sizes),
        "largest_pair": int(groups.sizes.max(initial=0)),
        "items_without_hard_negatives": int(primary[alone].sum()),
    }
