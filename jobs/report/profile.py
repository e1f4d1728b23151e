"""What a date's input and model look like in a few numbers, kept beside the run: what drift is measured on between dates.

Distributions are counts in fixed bins, so that two dates are compared without reading the tables of either again.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from esans_core.clusters.procrustes import ProcrustesSums
from jobs.base.places import open_dataset
from jobs.lake.tables import Lake
from jobs.lake.views import MODALITIES
from jobs.report.facts import RunFacts, model_embeddings

_PAIRS = 65_536  # embeddings compared at once
_NO_SPREAD = 1e-6  # codes are means of unit vectors: what lies nearer together differs by rounding alone


def build_profile(facts: RunFacts) -> dict[str, Any]:
    """JSON values; what the run did not reach is empty or None.

    Returns:
        events_of_day, new_items and views (shares of the items), since (the date that new items are counted from),
        distributions (name -> bin -> count), embeddings, centroids and churn (each with the date it is counted from).
    """
    items = facts.manifests.get("items", {}).get("rows") or 0
    views = {view: facts.stats(f"{view}_features").get("ok") for view in MODALITIES}
    return {
        "items": items or None,
        "events_of_day": _events_of_day(facts),
        **_new_items(facts),
        "views": {view: ok / items for view, ok in views.items() if ok is not None and items},
        "distributions": {
            name: counts
            for name, counts in (
                ("text length", _sizes(_text_lengths(facts))),
                ("events of an item", _sizes(_column(facts, "items", "num_train"))),
                ("events of a user", _sizes(_column(facts, "users", "num_train"))),
                ("items of a cluster", _labels(_column(facts, "clusters", "primary"))),
            )
            if counts
        },
        "embeddings": _embeddings(facts),
        "centroids": _centroids(facts),
        "churn": facts.stats("clusters").get("churn"),
    }


def stability_index(before: dict[str, int], after: dict[str, int]) -> float:
    """Population stability index of two histograms over the same bins; below 0.1 is calm, above 0.25 a shift.

    An empty bin counts as half a row, as its logarithm has no value.
    """
    bins = sorted(before.keys() | after.keys())
    counts = np.array([[max(float(side.get(name, 0)), 0.5) for name in bins] for side in (before, after)])
    old, new = counts / counts.sum(axis=1, keepdims=True)
    return float(((new - old) * np.log(new / old)).sum())


def _events_of_day(facts: RunFacts) -> int | None:
    if "interactions" not in facts.manifests:
        return None
    dataset = open_dataset(Lake.of(facts.settings).path("interactions", facts.settings.date))
    if "timestamp" not in dataset.schema.names:
        return None
    midnight = int(dt.datetime.combine(facts.settings.date, dt.time(), dt.UTC).timestamp())
    when = pc.field("timestamp")
    return dataset.count_rows(filter=(when >= midnight) & (when < midnight + 86_400))


def _new_items(facts: RunFacts) -> dict[str, Any]:
    """Share of items that the previous date did not have."""
    lake, date = Lake.of(facts.settings), facts.settings.date
    before = lake.previous_date("items", date)
    if before is None or "items" not in facts.manifests:
        return {"new_items": None, "since": None}
    ids, known = (lake.read("items", day, ["item_id"])["item_id"] for day in (date, before))
    new = len(ids) - (pc.sum(pc.is_in(ids, value_set=known)).as_py() or 0)
    return {"new_items": new / max(len(ids), 1), "since": before.isoformat()}


def _batches(facts: RunFacts, table: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    if table in facts.manifests:
        dataset = open_dataset(Lake.of(facts.settings).path(table, facts.settings.date))
        if set(columns) <= set(dataset.schema.names):
            yield from dataset.to_batches(columns=columns)


def _column(facts: RunFacts, table: str, column: str) -> Iterator[NDArray[np.int64]]:
    for batch in _batches(facts, table, [column]):
        yield batch.column(column).to_numpy(zero_copy_only=False).astype(np.int64)


def _text_lengths(facts: RunFacts) -> Iterator[NDArray[np.int64]]:
    for batch in _batches(facts, "items", ["title", "text"]):
        lengths = (pc.utf8_length(batch.column(name).cast(pa.string())) for name in ("title", "text"))
        title, text = (pc.fill_null(length, 0).to_numpy(zero_copy_only=False).astype(np.int64) for length in lengths)
        yield title + text


def _sizes(parts: Iterator[NDArray[np.int64]]) -> dict[str, int]:
    """Counts by power of two: 0, 1, 2-3, 4-7, ..."""
    counts = np.zeros(64, np.int64)
    for part in parts:
        counts += np.bincount(np.frexp(part.astype(np.float64))[1].clip(0), minlength=64)
    return {str(2 ** (power - 1) if power else 0): int(count) for power, count in enumerate(counts) if count}


def _labels(parts: Iterator[NDArray[np.int64]]) -> dict[str, int]:
    """Items by primary cluster; clusters are fitted from those of the day before, so a label keeps its meaning."""
    counts = np.zeros(0, np.int64)
    for part in parts:
        found = np.bincount(part[part >= 0])
        counts = np.pad(counts, (0, max(0, len(found) - len(counts))))
        counts[: len(found)] += found
    return {str(label): int(count) for label, count in enumerate(counts) if count}


def _embeddings(facts: RunFacts) -> dict[str, Any] | None:
    """How far the challenger's vectors of items of both dates have turned from the previous date's, and come apart."""
    lake, date = Lake.of(facts.settings), facts.settings.date
    before = lake.previous_date("challenger", date)
    if before is None or "challenger" not in facts.manifests:
        return None
    today, earlier = model_embeddings(lake, date), model_embeddings(lake, before)
    if today is None or earlier is None:
        return None
    (new, ids), (old, known) = today, earlier
    row_of = {item: row for row, item in enumerate(known)}
    rows = np.array([row_of.get(item, -1) for item in ids], dtype=np.int64)
    shared = np.flatnonzero(rows >= 0)
    if not len(shared) or new.shape[1] != old.shape[1]:
        return None
    sums = ProcrustesSums.empty(new.shape[1])
    for start in range(0, len(shared), _PAIRS):
        part = shared[start : start + _PAIRS]
        sums.add(new[part], old[rows[part]])
    rotation = sums.fit()
    found = {"items": len(shared), "cosine": rotation.cosine_after, "cosine_as_they_are": rotation.cosine_before}
    return found | {"since": before.isoformat()}


def _centroids(facts: RunFacts) -> dict[str, Any] | None:
    """How far primary codes have moved on average, as a share of their mean distance from their centre; warm fits only.

    Codes that all lay in one place, as those of a catalogue of equal items, have no spread to measure by: None.
    """
    lake, date, fit = Lake.of(facts.settings), facts.settings.date, facts.stats("codebooks")
    before = dt.date.fromisoformat(fit["previous_date"]) if fit.get("warm") and fit.get("previous_date") else None
    if before is None or not lake.exists("codebooks", before):
        return None
    from jobs.clusters.codebook_store import load_codebooks  # with torch, for this alone

    new, old = (load_codebooks(lake.path("codebooks", day))[1].primary_PD for day in (date, before))
    if new.shape != old.shape:
        return None
    spread = np.linalg.norm(old - old.mean(axis=0), axis=1).mean()
    if spread <= _NO_SPREAD:
        return None
    moved = np.linalg.norm(new - old, axis=1).mean()
    return {"moved": float(moved / spread), "since": before.isoformat()}
