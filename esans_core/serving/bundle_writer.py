"""Writes the folder that `esans_core.serving.bundle` reads, from trained towers and an index. The folder holds its own digest.

It needs the same as the reader: torch, faiss and pyarrow (`pip install ".[serving]"`).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from esans_core.serving.attributes import ItemAttributes
from esans_core.serving.bundle import ATTRIBUTES, POPULAR, ROW, SHARE
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
    attributes: pa.Table | None = None,
    about: Mapping[str, Any] | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a folder a bundle. The same values give the same bytes, and so the same digest.

    Args:
        folder: it must exist; the files that it holds already become part of the bundle.
        model: trained towers on the CPU, in eval mode.
        item_ids: ids of the model's items, by row.
        index: index over `esans_core.serving.retriever.item_embeddings(model)`, or over those items that may be in answers.
        events: int64 [N], training events of each item; users without a known item get the most popular items.
        k: how many items an answer has by default.
        max_k: the most items that can be asked for.
        attributes: what queries may filter by, a row for each item: columns of type string, list<string> or double.
        about: further JSON values that the bundle says about itself.
        preprocessing: further JSON values about how input was prepared.

    Returns:
        The content of bundle.json: `about`, `files` with their SHA-256, and `digest` over these two.
    """
    Retriever.save(folder, model, item_ids, index, preprocessing)
    export_item_tower(model, folder / "item_tower.pt2")
    _save_popular(folder / POPULAR, events, index.rows_A)
    if attributes is not None and attributes.num_columns:
        ItemAttributes.save(folder / ATTRIBUTES, attributes)
    counts = {"items": model.num_items, "items_in_answers": len(index.items_AD)}
    said = dict(about or {}) | counts | {"format": 1, "k": k, "max_k": max_k}
    files = file_digests(folder)
    content = {"about": said, "files": files, "digest": overall_digest(said, files)}
    (folder / BUNDLE).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return content


def _save_popular(file: Path, events: np.ndarray, rows_A: np.ndarray | None) -> None:
    """The items of the index that have events, by row, with their share of all events; the most popular first."""
    listed = np.arange(len(events)) if rows_A is None else rows_A
    listed = listed[events[listed] > 0]
    top = listed[np.argsort(-events[listed], kind="stable")]
    shares = (events[top] / max(1, events.sum())).astype(np.float32)
    table = pa.table({ROW: pa.array(top, pa.int64()), SHARE: pa.array(shares)})
    with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
