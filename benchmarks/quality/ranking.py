"""Full-catalogue ranking of any scores, user by user. Every yardstick is measured by this protocol.

Shape legend: B users, N items, U users in all, K retrieved items.
"""

from collections.abc import Callable, Mapping

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from benchmarks.quality.data import QualityData, event_splits, event_users, slices

# From users int64 [B] and their known events, 0/1 float32 [B, N], to scores [B, N]; the caller masks the known events.
Scores = Callable[[np.ndarray, sp.csr_matrix], np.ndarray]
KS = (20, 50, 200)
SLICE_K = NDCG_K = 50


def events_before(data: QualityData, end: int) -> sp.csr_matrix:
    """0/1 float32 [U, N]: training events (`end` 1), training and validation events (`end` 2)."""
    used = event_splits(data.sequences) < end
    user, item = event_users(data.sequences)[used].numpy(), data.sequences.items[used].numpy()
    return sp.csr_matrix((np.ones(len(user), np.float32), (user, item)), (data.sequences.num_users, data.num_items))


def evaluate_scores(
    scores: Scores, data: QualityData, split: str, *, history: str = "known", users_per_block: int = 256
) -> dict[str, np.ndarray]:
    """Rank all items for every user with a training history and an event in the split.

    Args:
        scores: scores of the method.
        data: the data set.
        split: "validation" or "holdout".
        history: events that the method sees and that are left out of the ranking; "known": all before the split, "train":
            only training events.
        users_per_block: users scored at once.

    Returns:
        `users` int64 [B], and float64 [B] each: recall_K for every K, ndcg_50, and recall_50 over the head, tail and new
        items that are relevant (NaN for a user without any).
    """
    users = data.sequences.evaluation_users(split)
    seen = events_before(data, 2 if (split, history) == ("holdout", "known") else 1)
    parts = []
    for block in users.split(users_per_block):
        known = seen[block.numpy()]
        scores_BN = torch.from_numpy(np.ascontiguousarray(scores(block.numpy(), known), np.float32))
        row, item = known.nonzero()
        scores_BN[torch.from_numpy(row).long(), torch.from_numpy(item).long()] = -torch.inf
        top_BK = scores_BN.topk(min(max(KS), data.num_items), dim=1).indices
        parts.append(metrics_of(top_BK, block, data, split))
    return {"users": users.numpy()} | {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def metrics_of(top_BK: Tensor, users: Tensor, data: QualityData, split: str) -> dict[str, np.ndarray]:
    """Metrics of each user, float64 [B], from the items retrieved for them, best first, int64 [B, K]."""
    relevant_BN = torch.zeros(len(users), data.num_items, dtype=torch.bool)
    relevant_BN[data.sequences.relevant(users, split)] = True
    hits_BK, total_B = relevant_BN.gather(1, top_BK).double(), relevant_BN.sum(1)
    found = {f"recall_{k}": hits_BK[:, :k].sum(1) / total_B for k in KS}
    gain = torch.arange(2, NDCG_K + 2, dtype=torch.float64).log2().reciprocal()
    best = torch.cat([gain.new_zeros(1), gain.cumsum(0)])[total_B.clamp_max(NDCG_K)]
    shown_BK = hits_BK[:, :NDCG_K]
    found[f"ndcg_{NDCG_K}"] = (shown_BK * gain[: shown_BK.shape[1]]).sum(1) / best
    for name, mask in slices(data).items():
        in_slice = (hits_BK * mask[top_BK])[:, :SLICE_K].sum(1)
        found[f"{name}_recall_{SLICE_K}"] = in_slice / (relevant_BN & mask).sum(1)  # 0 / 0 is NaN: the user has no such item
    return {name: values.numpy() for name, values in found.items()}


def means(per_user: Mapping[str, np.ndarray]) -> dict[str, float | int | None]:
    """Number of users and the mean of each metric over those who have it, rounded to six decimals."""
    out: dict[str, float | int | None] = {"num_users": len(per_user["users"])}
    for name, values in per_user.items():
        if name != "users":
            present = values[~np.isnan(values)]
            out[name] = round(float(present.mean()), 6) if len(present) else None
    return out
