"""Builds the serving bundle of a date from the challenger and the tables it was trained on.

`esans_core.serving.bundle.ServingBundle` answers queries from a bundle; docs/serving.md lists its files.
"""

import logging
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import torch

from esans_core.sequences import Sequences
from esans_core.serving.bundle import ServingBundle
from esans_core.serving.bundle_files import BUNDLE
from esans_core.serving.bundle_writer import write_bundle
from esans_core.serving.retriever import Retriever
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.places import copy_files
from jobs.base.settings import PipelineSettings
from jobs.lake.attributes import kinds_of, read_attributes
from jobs.lake.availability import available_items
from jobs.lake.tables import Lake
from jobs.serving.index import sampled_users, shared, tuned_index
from jobs.training.model_store import load_served

log = logging.getLogger(__name__)

_RECALL_AT = 200  # depth at which index and exact search are compared
_TIMED_QUERIES, _WARM_UP = 300, 20


def build_bundle(settings: PipelineSettings, folder: Path) -> dict[str, Any]:
    """Write the bundle of the date's challenger. The same tables, settings and code give the same digest.

    Args:
        settings: settings of the run.
        folder: a folder on this machine, which is made here.

    Returns:
        The content of bundle.json: `about`, `files` with their SHA-256, `digest` over these two, and what was
        `measured`, which is outside the digest.

    Raises:
        DataError: a table is missing, or the tables do not belong together.
    """
    lake, date = Lake.of(settings), settings.date
    model, meta, item_ids = load_served(lake.path("challenger", date))
    users = sampled_users(settings)
    if not len(users.items):
        raise DataError(
            "holds no event.",
            file=lake.path("sequences", date),
            remedy="run ingest and build_training_set again for this date.",
        )
    available = available_items(lake, date, item_ids)
    index, found = tuned_index(settings.candidates, model, users, _RECALL_AT, available)
    found.pop("index_recall", None)  # measured below
    folder.mkdir(parents=True)
    copy_files(lake.path("codebooks", date), folder / "codebooks")
    content = write_bundle(
        folder,
        model,
        item_ids,
        index,
        events=_events(settings, item_ids),
        attributes=_attributes(settings, item_ids),
        k=settings.bundle.k,
        max_k=settings.bundle.max_k,
        about=_about(settings) | {"index": found},
        preprocessing={"encoders": meta.get("encoders", {})},
    )
    content["measured"] = _measured(folder, users, item_ids)
    write_json(folder / BUNDLE, content)
    log.info("bundle %s: %d items, %s", content["digest"][:8], model.num_items, content["measured"])
    return content


def _about(settings: PipelineSettings) -> dict[str, Any]:
    """What a bundle says about itself: the model, and the data, code and settings it was made with."""
    lake, date = Lake.of(settings), settings.date
    challenger, items = (lake.manifest(name, date) for name in ("challenger", "items"))
    return {
        "model": settings.registry.model_name,
        "date": settings.ds,
        "run_key": challenger["stats"]["run_key"],
        "weights": challenger["stats"].get("weights", ""),
        "git_sha": challenger["git_sha"],
        "config_hash": challenger["config_hash"],
        "again": bool(lake.manifest("sequences", date)["stats"].get("again")),
        "data": items["inputs"]
        | challenger["inputs"]
        | {name: lake.manifest(name, date)["digest"] for name in ("challenger", "codebooks", "items")},
    }


def _attributes(settings: PipelineSettings, item_ids: list[str]) -> pa.Table | None:
    """What queries may filter by: all attributes but vectors, a row for each item."""
    table = read_attributes(Lake.of(settings), settings.date, "item_id", item_ids)
    if table is None:
        return None
    return table.select([name for name, kind in kinds_of(table).items() if kind != "embedding"])


def _events(settings: PipelineSettings, item_ids: list[str]) -> np.ndarray:
    """int64 [N], training events of each item."""
    items = Lake.of(settings).read("items", settings.date, ["item_id", "num_train"])
    events = dict(zip(items["item_id"].to_pylist(), items["num_train"].to_pylist(), strict=True))
    return np.array([events.get(item, 0) for item in item_ids], np.int64)


def _measured(folder: Path, users: Sequences, item_ids: list[str]) -> dict[str, Any]:
    """The share of the exact answer that the index finds, and the time that one query takes on one thread."""
    retriever, bundle = Retriever(folder), ServingBundle(folder)
    exact = retriever.index.exact().search(retriever.embed(users), _RECALL_AT, (users.offsets.numpy(), users.items.numpy()))
    near = exact if retriever.index.kind == "exact" else retriever.search(users, _RECALL_AT)
    ends = users.offsets.tolist()
    histories = [[item_ids[row] for row in users.items[start:end].tolist()] for start, end in zip(ends, ends[1:], strict=False)]
    return {
        f"recall_{_RECALL_AT}": round(shared(exact[0], near[0], len(item_ids)), 4),
        "users": users.num_users,
    } | query_times(bundle, histories, _TIMED_QUERIES)


def query_times(bundle: ServingBundle, histories: list[list[str]], queries: int) -> dict[str, float]:
    """Median and 99th percentile of the time of a query with one history, in milliseconds, on one thread."""
    threads, taken = (torch.get_num_threads(), faiss.omp_get_max_threads()), []
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    try:
        for number in range(_WARM_UP + queries):
            start = time.perf_counter()
            bundle.recommend([histories[number % len(histories)]])
            taken.append(1e3 * (time.perf_counter() - start))
    finally:
        torch.set_num_threads(threads[0])
        faiss.omp_set_num_threads(threads[1])
    p50, p99 = np.percentile(taken[_WARM_UP:], [50, 99])
    return {"p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}
