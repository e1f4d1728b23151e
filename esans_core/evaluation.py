"""Full-catalogue evaluation: exact top-K of every user over all items, Recall@K and NDCG@K, also by slices of the catalogue."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from esans_core.loader import EventLog
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower

_ENCODED_ITEMS = 1 << 16  # items encoded at once: 64 MB of activations at D = 64
_SCORED_ITEMS = 1 << 17  # items scored at once: 256 MB for 512 users


@dataclass(frozen=True)
class RetrievalResult:
    """The result of an evaluation, user by user.

    Attributes:
        users: int64 [B], users evaluated, by their row in the log.
        num_relevant: int64 [B], number of relevant items of each user.
        recall: K -> float64 [B].
        ndcg: K -> float64 [B], binary relevance, log2 discount, normalised by the best possible ranking.
        slice_recall: slice name -> float64 [B], recall at the smallest K over the relevant items of that slice; NaN for
            a user who has none in the slice.
        retrieved: bool [N], True for items that at least one user got among the first K, for the smallest K.
    """

    users: Tensor
    num_relevant: Tensor
    recall: dict[int, Tensor]
    ndcg: dict[int, Tensor]
    slice_recall: dict[str, Tensor]
    retrieved: Tensor


@torch.no_grad()
def encode_catalogue(model: TwoTower) -> Tensor:
    """float32 [N, D], embeddings of all items as they are served, on the model's device; made block by block."""
    device = model.item_input.content.device
    blocks = torch.arange(model.num_items, device=device).split(_ENCODED_ITEMS)
    with _in_eval_mode(model):
        first = model.encode_items(blocks[0])
        items_ND = first.new_empty(model.num_items, first.shape[1])
        for block in blocks:
            items_ND[block[0] : block[-1] + 1] = model.encode_items(block)
    return items_ND


@contextmanager
def _in_eval_mode(model: TwoTower) -> Iterator[None]:
    """Put the model in eval mode, and afterwards back in the mode it was in, also after an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


@torch.no_grad()
def retrieve(users_BD: Tensor, items_ND: Tensor, seen: tuple[Tensor, Tensor], k: int) -> Tensor:
    """Exact top-k by inner product over all items, with seen items left out; the catalogue is scored block by block.

    Args:
        users_BD: float [B, D].
        items_ND: float [N, D].
        seen: pairs (row int64 [P], item int64 [P]) that must not be retrieved.
        k: how many items per user; at most N.

    Returns:
        int64 [B, min(k, N)] item rows, best first.
    """
    k = min(k, len(items_ND))
    seen_item, order = seen[1].sort()
    seen_row = seen[0][order]
    best_Bk, place_Bk = users_BD.new_empty(len(users_BD), 0), seen_row.new_empty(len(users_BD), 0)
    for start in range(0, len(items_ND), _SCORED_ITEMS):
        block_nD = items_ND[start : start + _SCORED_ITEMS]
        scores_Bn = users_BD @ block_nD.T
        low, high = torch.searchsorted(seen_item, seen_item.new_tensor([start, start + len(block_nD)])).tolist()
        scores_Bn[seen_row[low:high], seen_item[low:high] - start] = -torch.inf
        score, place = scores_Bn.topk(min(k, len(block_nD)), dim=1)
        if best_Bk.shape[1]:
            score, place = torch.cat([best_Bk, score], 1), torch.cat([place_Bk, place + start], 1)
            score, kept = score.topk(min(k, score.shape[1]), dim=1)
            place = place.gather(1, kept)
        best_Bk, place_Bk = score, place
    return place_Bk


class Relevant:
    """The relevant items of B users, kept as sorted pairs so that retrieved items can be looked up in them.

    Args:
        row: int64 [P], user of each pair.
        item: int64 [P], item of each pair; a pair that is there twice counts once.
        num_users: B.
        num_items: N.
    """

    def __init__(self, row: Tensor, item: Tensor, num_users: int, num_items: int) -> None:
        self._pairs = torch.unique(row * num_items + item)
        self._num_users, self._num_items = num_users, num_items

    def count(self, among: Tensor | None = None) -> Tensor:
        """int64 [B], number of relevant items of each user; if `among`, bool [N], is given, only those items count."""
        pairs = self._pairs if among is None else self._pairs[among[self._pairs % self._num_items]]
        return torch.bincount(pairs // self._num_items, minlength=self._num_users)

    def hits(self, top_Bk: Tensor) -> Tensor:
        """bool [B, k], which of the retrieved items, int64 [B, k], are relevant; every user must have a relevant item."""
        wanted = top_Bk + torch.arange(len(top_Bk), device=top_Bk.device)[:, None] * self._num_items
        place = torch.searchsorted(self._pairs, wanted).clamp_(max=len(self._pairs) - 1)
        return self._pairs[place] == wanted


def evaluate(
    model: TwoTower,
    log: EventLog,
    split: str,
    *,
    ks: Sequence[int] = (50, 200),
    slices: Mapping[str, Tensor] | None = None,
    users_per_block: int = 512,
    new_users: bool = False,
) -> RetrievalResult:
    """Rank the whole catalogue for every user of a split.

    Users are read block by block, and items are scored block by block. Apart from the item embeddings and the result, memory
    does not grow with the log or the catalogue.

    Args:
        model: two towers; evaluated in eval mode. Its mode is restored, also after an error.
        log: the users' events.
        split: "validation" (history: training events) or "holdout" (history: training and validation events).
        ks: cut-offs.
        slices: name -> bool [N], parts of the catalogue to report separately.
        users_per_block: users scored at once.
        new_users: evaluate users without any event before the split, of whom features are known, in place of the others.

    Raises:
        ValueError: no user has both a history and an event in the split, so there is nothing to average. If this may
            happen, ask `Sequences.evaluation_users` first.
    """
    device = model.item_input.content.device
    slices = {name: mask.to(device) for name, mask in (slices or {}).items()}
    items_ND: Tensor | None = None
    retrieved_N = torch.zeros(model.num_items, dtype=torch.bool, device=device)
    found: list[dict[str, Tensor]] = []
    with _in_eval_mode(model):
        for log_block in range(log.num_blocks):
            sequences = log.read(log_block)
            for users in sequences.evaluation_users(split, new=new_users).split(users_per_block):
                if len(users) == 0:
                    continue
                items_ND = encode_catalogue(model) if items_ND is None else items_ND
                values, top = _evaluated(model, sequences, users, split, items_ND, ks, slices)
                retrieved_N[top[:, : min(ks)]] = True
                found.append({name: value.cpu() for name, value in values.items()})
                found[-1]["users"] = users + log.users(log_block).start
    if not found:
        raise ValueError(
            f"none of the {log.num_users} users has both a training history and an event in the {split} split: bring more "
            "events, or split them at another time"
        )
    whole = {name: torch.cat([part[name] for part in found]) for name in found[0]}
    return RetrievalResult(
        users=whole["users"],
        num_relevant=whole["num_relevant"],
        recall={k: whole[f"recall_{k}"] for k in ks},
        ndcg={k: whole[f"ndcg_{k}"] for k in ks},
        slice_recall={name: whole[f"slice_{name}"] for name in slices},
        retrieved=retrieved_N.cpu(),
    )


@torch.no_grad()
def _evaluated(
    model: TwoTower,
    sequences: Sequences,
    users: Tensor,
    split: str,
    items_ND: Tensor,
    ks: Sequence[int],
    slices: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], Tensor]:
    """Metrics of some users of a block, by name, and the items they got, int64 [b, max K]."""
    device, cutoff = items_ND.device, min(ks)
    seen_row, seen_item = sequences.seen(users, split)
    users_bD = model.encode_users_of(sequences, users, sequences.known_ends(users, split))
    top = retrieve(users_bD, items_ND, (seen_row.to(device), seen_item.to(device)), max(ks))
    row, item = sequences.relevant(users, split)
    relevant = Relevant(row.to(device), item.to(device), len(users), len(items_ND))
    hits = relevant.hits(top).double()
    values = {"num_relevant": relevant.count()}
    for k in ks:
        values[f"recall_{k}"] = hits[:, :k].sum(1) / values["num_relevant"]
        values[f"ndcg_{k}"] = _ndcg(hits[:, :k], values["num_relevant"], k)
    for name, mask in slices.items():
        share = (hits[:, :cutoff] * mask[top[:, :cutoff]]).sum(1)
        values[f"slice_{name}"] = share / relevant.count(mask)  # 0 / 0 is NaN: no such item
    return values, top


def _ndcg(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    discount = torch.arange(2, k + 2, dtype=torch.float64, device=hits.device).log2().reciprocal()
    best = torch.cat([discount.new_zeros(1), discount.cumsum(0)])[num_relevant.clamp_max(k)]
    return (hits * discount[: hits.shape[1]]).sum(1) / best
