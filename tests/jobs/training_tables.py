"""Small tables of one date, as the earlier steps write them, for the tests of training, evaluation and registration."""

import numpy as np
import pandas as pd

from esans_core.clusters.alignment import fit_alignment
from esans_core.clusters.cluster_index_writer import write_cluster_index
from esans_core.clusters.codebooks import fit_codebooks
from jobs.base.settings import PipelineSettings
from jobs.clusters.codebook_store import save_codebooks
from jobs.lake.tables import Lake

NUM_ITEMS, NUM_USERS, NUM_TASTES = 120, 90, 6


def write_training_tables(settings: PipelineSettings, seed: int = 0, num_items: int = NUM_ITEMS) -> None:
    """Items of six tastes whose features show the taste; each user likes one taste; the last five items are new."""
    generator = np.random.default_rng(seed)
    items = np.arange(num_items)
    taste = items % NUM_TASTES
    rows = []
    for user in range(NUM_USERS):
        liked = items[(taste == user % NUM_TASTES) & (items < num_items - 5)]
        rows.append(generator.permutation(liked)[:14])
    num_train, num_validation = 9, 2
    counts = np.bincount(np.concatenate([row[:num_train] for row in rows]), minlength=num_items)
    ids = [f"i{item:04d}" for item in items]
    _publish(settings, "items", {"item_index": items, "item_id": ids, "title": ids, "num_train": counts})
    _publish(settings, "users", {"user_index": np.arange(NUM_USERS), "user_id": [f"u{user:04d}" for user in range(NUM_USERS)]})
    views = {}
    for name, width in (("visual", 10), ("text", 8), ("behaviour", 6)):
        centres = np.random.default_rng([width]).standard_normal((NUM_TASTES, width))
        noise = np.stack([np.random.default_rng([width, item]).standard_normal(width) for item in items])
        views[name] = (centres[taste] + 0.4 * noise).astype(np.float32)
        vectors = [None if name == "visual" and item % 17 == 3 else views[name][item] for item in items]
        columns = {"item_index": items, "item_id": ids, "vector": vectors, "status": "ok", "encoder": f"{name}:1"}
        _publish(settings, f"{name}_features", columns)
    present = np.ones((num_items, 3), dtype=bool)
    heads, _ = fit_alignment(views, present, dim=8, epochs=2, temperature=0.1, seed=0)
    aligned = heads.align(views, present)
    codebooks, _ = fit_codebooks(aligned, present, num_primary=6, num_secondary=3, min_cluster_size=5, seed=0)
    with Lake.of(settings).write("codebooks", settings) as table:
        save_codebooks(table.path, heads, codebooks, {})
    clusters = codebooks.assign(aligned, present)
    _publish(
        settings,
        "clusters",
        {"item_index": items, "item_id": ids, "primary": clusters.primary, "secondary": clusters.secondary},
    )
    with Lake.of(settings).write("cluster_index", settings, inputs=["clusters"]) as table:
        write_cluster_index(table.path, lambda: [(clusters.primary, clusters.secondary)], len(codebooks.primary_PD))
    events = {"user_index": np.repeat(np.arange(NUM_USERS), 14), "item_index": np.concatenate(rows)}
    _publish(settings, "interactions", events)
    _publish(
        settings,
        "sequences",
        {
            "user_index": np.arange(NUM_USERS),
            "item_index": rows,
            "num_train": np.full(NUM_USERS, num_train, np.int32),
            "num_validation": np.full(NUM_USERS, num_validation, np.int32),
            "num_holdout": np.full(NUM_USERS, 14 - num_train - num_validation, np.int32),
        },
    )


def _publish(settings: PipelineSettings, table: str, columns: dict) -> None:
    with Lake.of(settings).write(table, settings) as pending:
        pending.path.mkdir()
        pd.DataFrame(columns).to_parquet(pending.path / "part-0.parquet", index=False)
