"""A trained model that is ready to answer: the user tower, the item inputs that it reads, ids and index, in one folder.

It needs torch, faiss and pyarrow (`pip install ".[serving]"`), and every process of a machine maps the same files.

Shape legend: N items, U users, D embedding dimension.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from esans_core.sequences import Sequences, by_length
from esans_core.serving.export import export_user_tower
from esans_core.serving.item_ids import ItemIds
from esans_core.serving.retrieval_index import RetrievalIndex
from esans_core.towers import TwoTower

_TOWER, _INPUTS, _IDS, _INDEX = "user_tower.pt2", "item_inputs.npy", "item_ids.arrow", "index"
_PREPROCESSING = "preprocessing.json"
_ITEMS_PER_BLOCK = 65_536


class Retriever:
    """Reads a folder that `save` wrote; large arrays are mapped, not loaded.

    Args:
        folder: the folder.

    Attributes:
        item_ids: ids of the catalogue.
        index: index over the items' embeddings.
        preprocessing: how input is prepared; see `save`.
    """

    def __init__(self, folder: Path) -> None:
        self.preprocessing: dict[str, Any] = json.loads((folder / _PREPROCESSING).read_text())
        self._tower = torch.export.load(folder / _TOWER).module(check_guards=False)
        # A symbolic check of the shapes takes longer than the tower itself, and `embed` makes all inputs itself.
        setattr(self._tower, "validate_inputs", False)  # noqa: B010
        # Copy on write, because torch wants memory that it may write to, though it never does.
        self._item_inputs = torch.from_numpy(np.load(folder / _INPUTS, mmap_mode="c", allow_pickle=False))
        self.item_ids = ItemIds(folder / _IDS)
        self.index = RetrievalIndex.load(folder / _INDEX)

    @staticmethod
    def save(
        folder: Path, model: TwoTower, item_ids: Sequence[str], index: RetrievalIndex, about: dict[str, Any] | None = None
    ) -> None:
        """Write a folder; the same values give the same bytes.

        Args:
            folder: it must exist.
            model: trained towers on the CPU, in eval mode.
            item_ids: ids of the model's items, by row.
            index: index over `item_embeddings(model)`.
            about: further JSON values about how input is prepared (which encoders made the content, ...).
        """
        export_user_tower(model, folder / _TOWER)
        np.save(folder / _INPUTS, _by_item(model, model.context_input), allow_pickle=False)
        ItemIds.save(folder / _IDS, item_ids)
        index.save(folder / _INDEX)
        preprocessing = {
            "max_history": model.user_tower.max_history,
            "order": "oldest first; the latest max_history items that the catalogue has",
            "padding": "after the last event, mask False; the item input there is not read",
            "content_features": len(model.item_input.content_mean),
            "embedding_dim": model.options["dim"] + (model.item_input.popularity is not None),
            "popularity": model.item_input.popularity is not None,
        }
        if model.user_input is not None:
            preprocessing["user_features"] = len(model.user_input.mean)
        (folder / _PREPROCESSING).write_text(json.dumps(preprocessing | (about or {}), indent=2, sort_keys=True) + "\n")

    @torch.no_grad()
    def embed(self, sequences: Sequences) -> np.ndarray:
        """float32 [U, D], unit vectors: the embedding of each user, from the latest of all their events and their features."""
        users, ends = torch.arange(sequences.num_users), sequences.offsets[1:]
        history_UL = sequences.histories(users, ends, self.preprocessing["max_history"])
        groups = by_length(history_UL)
        features_UG = sequences.features
        if features_UG is None:
            features_UG = torch.full((sequences.num_users, self.preprocessing.get("user_features", 0)), torch.nan)
        parts = [self._embedded(history_UL[rows, :width], features_UG[rows]) for rows, width in groups]
        return torch.cat(parts)[torch.cat([rows for rows, _ in groups]).argsort()].numpy()

    def _embedded(self, history_UL: Tensor, features_UG: Tensor) -> Tensor:
        inputs_ULD = functional.embedding(history_UL.clamp_min(0), self._item_inputs)
        beside = (features_UG,) if "user_features" in self.preprocessing else ()
        return self._tower(inputs_ULD, history_UL >= 0, *beside)

    def directions(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where some items lie among all others, without their popularity.

        Args:
            rows: int64 [R], rows of the catalogue.

        Returns:
            bool [R], which of them the index holds, and float32 [R, D]; zeros for those that it does not hold. The inner
            product of two of them is the cosine of the two items.
        """
        held, vectors_RD = self.index.vectors(rows)
        if self.has_popularity:
            vectors_RD[:, -1] = 0
        return held, vectors_RD

    @property
    def has_popularity(self) -> bool:
        """Whether every score contains the popularity of its item."""
        return bool(self.preprocessing.get("popularity"))

    def search(
        self, sequences: Sequences, k: int, allowed_N: np.ndarray | None = None, popularity: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 [U, k] and scores float32 [U, k] of each user's best items.

        Items in the user's sequence are left out, unless they may come `again`, and so are unwanted ones. The best item comes
        first; -1 and -inf stand where no item is left. `allowed_N`, bool [N], says which items may be found; None: all that the
        index holds. `popularity` is the weight of the items' popularity in the scores, which was 1 in training.
        """
        row, item = sequences.seen(torch.arange(sequences.num_users), "holdout")
        order = row.argsort(stable=True)
        ends = torch.bincount(row, minlength=sequences.num_users).cumsum(0)
        offsets = torch.cat([ends.new_zeros(1), ends])
        users_UD = self.embed(sequences)
        if self.has_popularity:
            users_UD[:, -1] *= popularity  # a user's vector has a 1 there
        return self.index.search(users_UD, k, (offsets.numpy(), item[order].numpy()), allowed_N)


@torch.no_grad()
def item_embeddings(model: TwoTower) -> np.ndarray:
    """float32 [N, D], unit vectors: the embedding of every item."""
    return _by_item(model, model.encode_items)


@torch.no_grad()
def _by_item(model: TwoTower, encode: Callable[[Tensor], Tensor]) -> np.ndarray:
    """`encode` of every item, float32 [N, D]. It runs in blocks and on one thread, so that sums are always the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        blocks = torch.arange(model.num_items).split(_ITEMS_PER_BLOCK)
        return torch.cat([encode(block) for block in blocks]).numpy()
    finally:
        torch.set_num_threads(threads)
