"""Chooses the index for a catalogue: exact or approximate by its size, with enough lists to search if approximate."""

import logging
from typing import Any

import numpy as np
import pyarrow.compute as pc
import torch

from esans_core.sequences import Sequences
from esans_core.serving.retrieval_index import Kind, RetrievalIndex
from esans_core.serving.retriever import item_embeddings
from esans_core.towers import TwoTower
from jobs.base.places import open_dataset
from jobs.base.settings import CandidateSettings, PipelineSettings
from jobs.lake.event_log import features_of
from jobs.lake.tables import Lake
from jobs.lake.user_features import num_features
from jobs.serving.candidate_search import sequences_of
from jobs.training.data import user_encoder

log = logging.getLogger(__name__)

_SAMPLED_USERS = 1000  # users with whom the index is compared with exact search
_FIRST_PROBES = 8


def sampled_users(settings: PipelineSettings) -> Sequences:
    """The events of about a thousand users (or of all, if there are fewer), spread evenly over the date's `sequences`."""
    dataset = open_dataset(Lake.of(settings).path("sequences", settings.date))
    step = max(1, dataset.count_rows() // _SAMPLED_USERS)
    features = sum(map(num_features, user_encoder(settings).values()))
    rows = dataset.take(np.arange(0, dataset.count_rows(), step), columns=["item_index"] + ["features"] * bool(features))
    rows = rows.filter(pc.greater(pc.list_value_length(rows["item_index"]), 0))  # users who were forgotten have no event left
    beside = features_of(rows["features"], features) if features else None
    return sequences_of(rows["item_index"].combine_chunks(), features=beside)


def tuned_index(
    candidates: CandidateSettings, model: TwoTower, users: Sequences, k: int, available_N: np.ndarray | None = None
) -> tuple[RetrievalIndex, dict[str, Any]]:
    """The index to use, and what is known of it. An approximate index searches as few lists as the floor allows.

    If even a quarter of the lists does not reach the floor, there is a warning, and the search is exact: slower, but right.

    Args:
        candidates: the wanted index, and the floor of its recall.
        model: trained towers on the CPU.
        users: users with whom the index is compared with exact search.
        k: number of items of the exact answer that count.
        available_N: bool [N], the items that may be found; None: all.

    Returns:
        The index, and JSON values: its kind, and its measured recall and numbers of lists.
    """
    items_ND = item_embeddings(model)
    rows_A = None if available_N is None or available_N.all() else np.flatnonzero(available_N)
    items_AD = items_ND if rows_A is None else items_ND[rows_A]
    wanted, floor = index_kind(candidates, len(items_AD)), candidates.min_index_recall
    index = RetrievalIndex.build(items_AD, wanted, rows_A)
    if wanted == "exact":
        return index, {"index": "exact"}
    seen, users_BD, recall = (users.offsets.numpy(), users.items.numpy()), _embedded(model, users), 0.0
    best_BK = index.exact().search(users_BD, k, seen)[0]
    index.probes = _FIRST_PROBES
    while index.probes <= max(_FIRST_PROBES, index.num_lists // 4):
        recall = shared(best_BK, index.search(users_BD, k, seen)[0], model.num_items)
        log.info("%d of %d lists hold %.4f of the exact top %d", index.probes, index.num_lists, recall, k)
        if recall >= floor:
            return index, {"index": wanted, "index_recall": round(recall, 4), "probes": index.probes, "lists": index.num_lists}
        index.probes *= 2
    log.warning("that is less than candidates.min_index_recall (%s), so the search is exact", floor)
    return index.exact(), {"index": "exact", "index_given_up": wanted, "index_recall": round(recall, 4)}


def index_kind(candidates: CandidateSettings, num_items: int) -> Kind:
    """The kind of index for a catalogue of this size."""
    if candidates.index == "auto":
        return "exact" if num_items <= candidates.exact_up_to else "ivf"
    return candidates.index


def shared(exact_BK: np.ndarray, near_BK: np.ndarray, num_items: int) -> float:
    """Share of the items in the exact answers that the other answers have too; 1 if there are none."""
    exact, near = (
        np.where(items >= 0, np.arange(len(items))[:, None] * num_items + items, -1) for items in (exact_BK, near_BK)
    )
    return float(np.isin(exact[exact >= 0], near).mean()) if (exact >= 0).any() else 1.0


@torch.no_grad()
def _embedded(model: TwoTower, users: Sequences) -> np.ndarray:
    return model.encode_users_of(users, torch.arange(users.num_users), users.offsets[1:]).numpy()
