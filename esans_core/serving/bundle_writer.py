"""Writes the folder that `esans_core.serving.bundle` reads, from trained towers and an index. The folder holds its own digest.

It needs the same as the reader: torch, faiss and pyarrow (`pip install "esans-core[serving]"`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from esans_core.serving.bundle import POPULAR
from esans_core.serving.bundle_files import BUNDLE, file_digests, overall_digest
from esans_core.serving.export import export_item_tower
from esans_core.serving.retrieval_index import RetrievalIndex
from esans_core.serving.retriever import Retriever
from esans_core.towers import TwoTower


def write_bundle(
    folder: Path,
    model: TwoTower,
    item_ids: Sequence[str],
    index: RetrievalIndex,
    *,
    events: np.ndarray,
    k: int,
    max_k: int,
    about: Mapping[str, Any] | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a folder a bundle. The same values give the same bytes, and so the same digest.

    Args:
        folder: it must exist; the files that it holds already become part of the bundle.
        model: trained towers on the CPU, in eval mode.
        item_ids: ids of the model's items, by row.
        index: index over `esans_core.serving.retriever.item_embeddings(model)`.
        events: int64 [N], training events of each item; users without a known item get the most popular items.
        k: how many items an answer has by default.
        max_k: the most items that can be asked for.
        about: further JSON values that the bundle says about itself.
        preprocessing: further JSON values about how input was prepared.

    Returns:
        The content of bundle.json: `about`, `files` with their SHA-256, and `digest` over these two.
    """
    Retriever.save(folder, model, item_ids, index, preprocessing)
    export_item_tower(model, folder / "item_tower.pt2")
    _save_popular(folder / POPULAR, item_ids, events, max_k)
    said = dict(about or {}) | {"format": 1, "items": model.num_items, "k": k, "max_k": max_k}
    files = file_digests(folder)
    content = {"about": said, "files": files, "digest": overall_digest(said, files)}
    (folder / BUNDLE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return content


def _save_popular(file: Path, item_ids: Sequence[str], events: np.ndarray, count: int) -> None:
    top = np.argsort(-events, kind="stable")[:count]
    top = top[events[top] > 0]
    shares = (events[top] / max(1, events.sum())).astype(np.float32)
    table = pa.table({"item_id": pa.array([item_ids[row] for row in top], pa.string()), "share": shares})
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
