"""One query to a serving bundle on one thread: how long it takes, and how much of the exact answer it finds.

Items and users have tastes, because real embeddings lie in clusters, and an inverted file depends on that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.measure import beside, judged
from benchmarks.record import Row
from esans_core.sequences import Sequences
from esans_core.serving.bundle import ServingBundle
from esans_core.serving.bundle_writer import write_bundle
from esans_core.serving.retrieval_index import Kind
from esans_core.towers import TwoTower
from jobs.base.settings import CandidateSettings
from jobs.serving.bundle import query_times
from jobs.serving.index import tuned_index

ESANS, EXACT = "serving bundle", "the same, searched exactly"
P50, P99 = "one query, median", "one query, 99th percentile"
_RECALL_AT, _TASTES_OF_A_USER, _HEADS = 200, 3, 4


@dataclass(frozen=True)
class Size:
    """Attributes: N items; their tastes; F content features; D; L events of history; users; queries timed."""

    num_items: int = 100_000
    num_tastes: int = 500
    num_features: int = 128
    dim: int = 64
    history: int = 50
    users: int = 500
    queries: int = 3000


FULL = Size()
QUICK = Size(num_items=60_000, queries=500)


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """Time of a query with a full history, and recall of the approximate index; the peer is the exact index."""
    model, users = towers_and_users(size)
    item_ids = [f"item-{row}" for row in range(size.num_items)]
    ends = users.offsets.tolist()
    histories = [[item_ids[row] for row in users.items[start:end].tolist()] for start, end in zip(ends, ends[1:], strict=False)]
    case = f"serving: {size.num_items:,} items"
    taken: dict[str, dict[str, float]] = {}
    found: dict[str, Any] = {}
    kinds: dict[str, Kind] = {EXACT: "exact", ESANS: "ivf"}
    for subject, kind in kinds.items():
        taken[subject], found = _answer_times(size, model, users, item_ids, histories, kind)
    for metric, name in ((P50, "p50_ms"), (P99, "p99_ms")):
        exact, ours = (Row(case, subject, metric, "ms", taken[subject][name], size.queries) for subject in (EXACT, ESANS))
        yield exact
        yield beside(ours, exact, "value <= 20" if metric == P99 else None)
    yield judged(
        Row(case, ESANS, f"recall@{_RECALL_AT} of exact search", "of 1", found["index_recall"], size.users), "value >= 0.98"
    )


def _answer_times(
    size: Size, model: TwoTower, users: Sequences, item_ids: list[str], histories: list[list[str]], kind: Kind
) -> tuple[dict[str, float], dict[str, Any]]:
    index, found = tuned_index(CandidateSettings(index=kind), model, users, _RECALL_AT)
    with TemporaryDirectory() as scratch:
        events = np.arange(size.num_items)[::-1]
        write_bundle(Path(scratch), model, item_ids, index, events=events, k=100, max_k=1000)
        return query_times(ServingBundle(Path(scratch)), histories, size.queries), found


def towers_and_users(size: Size) -> tuple[TwoTower, Sequences]:
    """Towers over items that lie around their tastes, and users who met items of three tastes each."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    taste = torch.randint(size.num_tastes, (size.num_items,), generator=generator)
    centres = torch.randn(size.num_tastes, size.num_features, generator=generator)
    content = centres[taste] + 0.7 * torch.randn(size.num_items, size.num_features, generator=generator)
    known = torch.zeros(size.num_items, dtype=torch.bool)  # untrained ids would hide the tastes
    model = TwoTower(content, known, dim=size.dim, num_heads=_HEADS, max_history=size.history).eval()
    order = taste.argsort(stable=True)
    starts = torch.searchsorted(taste[order], torch.arange(size.num_tastes + 1))
    liked = torch.randint(size.num_tastes, (size.users, _TASTES_OF_A_USER), generator=generator)
    chosen = liked[:, torch.randint(_TASTES_OF_A_USER, (size.history,), generator=generator)]
    place = torch.rand(chosen.shape, generator=generator) * starts.diff()[chosen]
    items = order[starts[chosen] + place.long()].flatten()
    return model, Sequences.past(items, torch.arange(0, len(items) + 1, size.history))
