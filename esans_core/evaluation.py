"""Full-catalogue evaluation: exact top-K of every user over all items, Recall@K and NDCG@K, with slices of the catalogue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esans_core.sequences import Sequences
from esans_core.towers import TwoTower


@dataclass(frozen=True)
class RetrievalResult:
    """What an evaluation found, user by user.

    Attributes:
        users: int64 [B], users evaluated.
        num_relevant: int64 [B], relevant items of each.
        recall: K -> float64 [B].
        ndcg: K -> float64 [B], binary relevance, log2 discount, normalised by the best possible ranking.
        slice_recall: slice name -> float64 [B], recall at the smallest K over the relevant items of that slice; NaN for
            a user without any.
        top: int64 [B, max K], retrieved items, best first.
    """

    users: Tensor
    num_relevant: Tensor
    recall: dict[int, Tensor]
    ndcg: dict[int, Tensor]
    slice_recall: dict[str, Tensor]
    top: Tensor


@torch.no_grad()
def retrieve(users_BD: Tensor, items_ND: Tensor, seen: tuple[Tensor, Tensor], k: int) -> Tensor:
    """Exact top-k by inner product over all items, with seen items left out.

    Args:
        users_BD: float [B, D].
        items_ND: float [N, D].
        seen: pairs (row int64 [P], item int64 [P]) that must not be retrieved.
        k: how many; capped at N.

    Returns:
        int64 [B, min(k, N)] item rows, best first.
    """
    scores_BN = users_BD @ items_ND.T
    scores_BN[seen] = -torch.inf
    return scores_BN.topk(min(k, len(items_ND)), dim=1).indices


@torch.no_grad()
def evaluate(
    model: TwoTower,
    sequences: Sequences,
    split: str,
    *,
    ks: Sequence[int] = (50, 200),
    slices: Mapping[str, Tensor] | None = None,
    users_per_block: int = 512,
) -> RetrievalResult:
    """Rank the whole catalogue for every user of a split.

    Args:
        model: two towers; evaluated in eval mode, its mode is restored.
        sequences: the users' events.
        split: "validation" (history: training events) or "holdout" (history: training and validation events).
        ks: cut-offs.
        slices: name -> bool [N], parts of the catalogue to report apart.
        users_per_block: users scored at once; memory is about 9 bytes x users x N.

    Raises:
        ValueError: no user has both a history and an event in the split.
    """
    users = sequences.evaluation_users(split)
    if len(users) == 0:
        raise ValueError(f"no user has both a training history and an event in the {split} split")
    was_training = model.training
    model.eval()
    device = model.item_input.content.device
    items_ND = model.encode_items(torch.arange(model.num_items, device=device))
    cutoff = min(ks)
    slices = {name: mask.to(device) for name, mask in (slices or {}).items()}
    recall: dict[int, list[Tensor]] = {k: [] for k in ks}
    ndcg: dict[int, list[Tensor]] = {k: [] for k in ks}
    slice_recall: dict[str, list[Tensor]] = {name: [] for name in slices}
    tops, counts = [], []
    for block in users.split(users_per_block):
        seen_row, seen_item = sequences.seen(block, split)
        users_BD = model.encode_users_of(sequences, block, sequences.known_ends(block, split))
        top = retrieve(users_BD, items_ND, (seen_row.to(device), seen_item.to(device)), max(ks))
        relevant_BN = torch.zeros(len(block), model.num_items, dtype=torch.bool, device=device)
        row, item = sequences.relevant(block, split)
        relevant_BN[row.to(device), item.to(device)] = True
        hits = relevant_BN.gather(1, top).double()
        num_relevant = relevant_BN.sum(1)
        for k in ks:
            recall[k].append((hits[:, :k].sum(1) / num_relevant).cpu())
            ndcg[k].append(_ndcg(hits[:, :k], num_relevant, k).cpu())
        for name, mask in slices.items():
            total = (relevant_BN & mask).sum(1)
            found = (hits[:, :cutoff] * mask[top[:, :cutoff]]).sum(1)
            slice_recall[name].append((found / total).cpu())  # 0 / 0 is NaN: no such item
        tops.append(top.cpu())
        counts.append(num_relevant.cpu())
    model.train(was_training)
    return RetrievalResult(
        users=users,
        num_relevant=torch.cat(counts),
        recall={k: torch.cat(values) for k, values in recall.items()},
        ndcg={k: torch.cat(values) for k, values in ndcg.items()},
        slice_recall={name: torch.cat(values) for name, values in slice_recall.items()},
        top=torch.cat(tops),
    )


def _ndcg(hits: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    discount = torch.arange(2, k + 2, dtype=torch.float64, device=hits.device).log2().reciprocal()
    best = torch.cat([discount.new_zeros(1), discount.cumsum(0)])[num_relevant.clamp_max(k)]
    return (hits * discount[: hits.shape[1]]).sum(1) / best
