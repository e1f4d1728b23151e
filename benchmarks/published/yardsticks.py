"""Cheap methods without towers on the same splits: popularity, item cosine, and EASE where its dense matrix fits.

Shape legend: B users, N items, K retrieved items.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from benchmarks.published.logs import KS, LOGS
from benchmarks.quality.data import QualityData
from benchmarks.quality.ranking import Scores, events_before
from benchmarks.quality.trial import some_users
from benchmarks.quality.yardsticks import GRIDS, METHODS
from benchmarks.trials import hashed
from esans_core.evaluation import Relevant
from esans_core.sequences import Sequences

YARDSTICKS = ("popularity", "item_cosine", "ease")
_VERSION = 1  # raise it when the same data would give other figures
_MAX_DENSE_ITEMS = 13_000  # EASE inverts a dense matrix of items: 1.4 GB in float64 at 13,000
_TUNED_ON_USERS = 3_000


def measure(data: QualityData, method: str) -> dict[str, Any]:
    """Choose a method's setting on validation, and measure it on the test part. What was seen is left out of the answer.

    It is fitted on what the published tables train on (`Log.tables_use_validation`). A user's validation events are known.

    Returns:
        JSON values: key, log, method, config, and the metrics of `test`.
    """
    log = LOGS[data.name]
    train, known = events_before(data, 1), events_before(data, 2)
    watched = some_users(data.sequences, "validation", _TUNED_ON_USERS)
    grid: list[dict[str, Any]] = GRIDS[method]

    def reached(config: dict[str, Any]) -> float:
        return ranked(METHODS[method](train, **config), watched, "validation", data.num_items)[log.main]

    best = grid[0] if len(grid) == 1 else max(grid, key=reached)
    scores = METHODS[method](known if log.tables_use_validation else train, **best)
    found = ranked(scores, data.sequences, "holdout", data.num_items)
    return {"key": _key(data, method), "data": log.name, "method": method, "config": best, "test": found}


def ranked(scores: Scores, sequences: Sequences, split: str, num_items: int, users_per_block: int = 256) -> dict[str, float]:
    """Means over the users of a split of recall and NDCG at each K, for any scores over the whole catalogue.

    The scores get 0/1 histories. So a method with a vector for each user cannot be measured here.
    """
    parts: list[dict[str, Tensor]] = []
    for users in sequences.evaluation_users(split).split(users_per_block):
        row, item = sequences.seen(users, split)
        history = sp.csr_matrix((np.ones(len(row), np.float32), (row.numpy(), item.numpy())), (len(users), num_items))
        history.data[:] = 1.0
        scores_BN = torch.from_numpy(np.ascontiguousarray(scores(users.numpy(), history), np.float32))
        scores_BN[row, item] = -torch.inf
        top_BK = scores_BN.topk(min(max(KS), num_items), dim=1).indices
        parts.append(user_metrics(top_BK, *sequences.relevant(users, split), num_items))
    return {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}


def user_metrics(top_BK: Tensor, row: Tensor, item: Tensor, num_items: int) -> dict[str, Tensor]:
    """Metrics of each user, float64 [B].

    NDCG is binary, with the discount log2(1 + rank), over the best that min(K, number of relevant items) hits can give.

    Args:
        top_BK: int64 [B, K], retrieved items, best first.
        row: int64 [P], user of each relevant pair; every user has one.
        item: int64 [P], its item.
        num_items: N.
    """
    relevant = Relevant(row, item, len(top_BK), num_items)
    hits_BK, total_B = relevant.hits(top_BK).double(), relevant.count()
    gain = torch.arange(2, max(KS) + 2, dtype=torch.float64).log2().reciprocal()
    ideal = torch.cat([gain.new_zeros(1), gain.cumsum(0)])
    found = {}
    for k in KS:
        shown_BK = hits_BK[:, :k]
        found[f"recall_{k}"] = shown_BK.sum(1) / total_B
        found[f"ndcg_{k}"] = (shown_BK * gain[: shown_BK.shape[1]]).sum(1) / ideal[total_B.clamp_max(k)]
    return found


def run_missing(data: QualityData, kept: Path, methods: Sequence[str] = YARDSTICKS) -> None:
    """Measure the yardsticks of a log that were not measured on these data. EASE takes ten minutes for 12,000 items."""
    path = kept / "yardsticks" / f"{data.name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = load(data.name, kept)
    for method in methods:
        if method == "ease" and data.num_items > _MAX_DENSE_ITEMS:
            continue
        if done.get(method, {}).get("key") != _key(data, method):
            done[method] = measure(data, method)
            temporary = path.with_name(f".{path.name}.part")
            temporary.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in done.values()))
            temporary.replace(path)
            print(
                f"{data.name} {method} {done[method]['config']}: {done[method]['test'][LOGS[data.name].main]:.4f}", flush=True
            )


def load(name: str, kept: Path) -> dict[str, dict[str, Any]]:
    """What was measured on a log, by method."""
    path = kept / "yardsticks" / f"{name}.jsonl"
    return {line["method"]: line for line in _lines(path)}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return map(json.loads, path.read_text().splitlines() if path.exists() else [])


def _key(data: QualityData, method: str) -> str:
    return hashed([_VERSION, data.name, data.digest(), method, GRIDS[method]])
