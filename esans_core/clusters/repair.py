"""Repair of primary clusters with fewer than `m_o` items (ESANS, WWW 2025, arXiv 2502.16077, section on MSAC).

The sampler draws `m_o` distinct items in a cluster, so no cluster may hold fewer. Items get their cluster from the nearest
code, today and on every later day. So the codes are repaired, never the labels.

Shapes: N items, K codes, D dimensions.
"""

from dataclasses import dataclass

import numpy as np

from esans_core.clusters.nearest import nearest_codes

_DONORS_TRIED = 16  # clusters tried for a split, worst distortion first, before a code is left retired


@dataclass(frozen=True)
class Repair:
    """What was done about one cluster that was too small.

    Attributes:
        code: the code repaired.
        size_before: items it held.
        merged_into: items that each other code received from it.
        split_from: the code whose cluster was split to give this one a new place; None when it was left retired.
        size_after: items it holds right after the repair; 0 when retired.
        donor_size_before: items of the split cluster before the split.
        donor_size_after: items of the split cluster after the split.
    """

    code: int
    size_before: int
    merged_into: dict[int, int]
    split_from: int | None
    size_after: int
    donor_size_before: int | None
    donor_size_after: int | None


@dataclass(frozen=True)
class Repaired:
    """Codes after the repair. If items are assigned to the active codes, every cluster has at least the wanted size.

    Attributes:
        codes_KD: float32 [K, D].
        active_K: bool [K]; False for a code that no item may be assigned to.
        label_N: int32 [N], nearest active code.
        squared_N: float64 [N], squared distance to it.
        repairs: what was done, in order.
    """

    codes_KD: np.ndarray
    active_K: np.ndarray
    label_N: np.ndarray
    squared_N: np.ndarray
    repairs: tuple[Repair, ...]


def repair_small_clusters(
    x_ND: np.ndarray, codes_KD: np.ndarray, min_size: int, active_K: np.ndarray | None = None
) -> Repaired:
    """Retire each code with fewer than `min_size` nearest items, and give it a new place if a cluster can be split.

    The smallest cluster is the first. Its code is taken out, so its items go to their next nearest codes. Then the cluster
    with the largest distortion is cut at the median of its main axis, and both halves get a code. A split counts only if
    both halves keep `min_size` items and no other cluster falls below it. Otherwise the next cluster is tried, and if none
    can be split, the code stays retired. When a code is taken out, no other cluster shrinks, so each round leaves fewer
    small clusters than before. There are at most K rounds; in the extreme, one cluster holds all N items.

    Args:
        x_ND: float32 [N, D], the vectors that the codes quantise.
        codes_KD: float32 [K, D].
        min_size: m_o.
        active_K: bool [K], codes in use at the start (all by default); the others can only be given a new place.

    Raises:
        ValueError: N < min_size, or no active code.
    """
    if len(x_ND) < min_size:
        raise ValueError(f"{len(x_ND)} items cannot make one cluster of at least {min_size}")
    if active_K is not None and not active_K.any():
        raise ValueError("at least one code must be active")
    retired_before = [] if active_K is None else np.flatnonzero(~active_K).tolist()
    state = _State(x_ND, codes_KD, active_K, min_size)
    repairs = []
    while (small := np.flatnonzero(state.active_K & (state.size_K < min_size))).size:
        repairs.append(state.repair(int(small[state.size_K[small].argmin()])))
    repairs += [state.repair(code) for code in retired_before]
    assert (state.size_K[state.active_K] >= min_size).all()
    return Repaired(
        state.codes_KD,
        state.active_K,
        state.label_N,
        state.squared_N,
        tuple(repair for repair in repairs if repair.size_before or repair.split_from is not None),
    )


class _State:
    """Codes and the assignment they give. Each change updates the assignment, so that not all items are assigned again."""

    def __init__(self, x_ND: np.ndarray, codes_KD: np.ndarray, active_K: np.ndarray | None, min_size: int) -> None:
        self.x_ND, self.min_size = x_ND, min_size
        self.codes_KD = codes_KD.astype(np.float32)
        self.active_K = np.ones(len(codes_KD), bool) if active_K is None else active_K.copy()
        self.label_N, self.squared_N = self._assign(x_ND, self.codes_KD, self.active_K)
        self.size_K = self._sizes(self.label_N)

    def repair(self, code: int) -> Repair:
        size_before, merged_into = int(self.size_K[code]), self._retire(code)
        donors = np.flatnonzero(self.active_K & (self.size_K >= 2 * self.min_size))
        distortion_K = np.bincount(self.label_N, weights=self.squared_N, minlength=len(self.codes_KD))
        for donor in donors[np.argsort(-distortion_K[donors], kind="stable")][:_DONORS_TRIED].tolist():
            donor_size = int(self.size_K[donor])
            if self._split(donor, code):
                size_after, donor_size_after = int(self.size_K[code]), int(self.size_K[donor])
                return Repair(code, size_before, merged_into, donor, size_after, donor_size, donor_size_after)
        return Repair(code, size_before, merged_into, None, 0, None, None)

    def _retire(self, code: int) -> dict[int, int]:
        """Take a code out; returns how many of its items went to which code."""
        self.active_K[code] = False
        rows = np.flatnonzero(self.label_N == code)
        self.label_N[rows], self.squared_N[rows] = self._assign(self.x_ND[rows], self.codes_KD, self.active_K)
        self.size_K = self._sizes(self.label_N)
        heirs, counts = np.unique(self.label_N[rows], return_counts=True)
        return dict(zip(heirs.tolist(), counts.tolist(), strict=True))

    def _split(self, donor: int, code: int) -> bool:
        """Put `donor` and `code` on the halves of the donor's cluster, if every cluster stays large enough."""
        mine_N = self.label_N == donor
        codes_KD, active_K = self.codes_KD.copy(), self.active_K.copy()
        pair = sorted((donor, code))
        codes_KD[pair] = _halves(self.x_ND[mine_N])
        active_K[code] = True
        label_N, squared_N = self.label_N.copy(), self.squared_N.copy()
        label_N[mine_N], squared_N[mine_N] = self._assign(self.x_ND[mine_N], codes_KD, active_K)
        # Items of other clusters keep their code unless one of the two moved codes is nearer (ties: the lower code).
        rows = np.flatnonzero(~mine_N)
        rival, squared = nearest_codes(self.x_ND[rows], codes_KD[pair])
        rival = np.asarray(pair, np.int32)[rival]
        nearer = (squared < squared_N[rows]) | ((squared == squared_N[rows]) & (rival < label_N[rows]))
        label_N[rows[nearer]], squared_N[rows[nearer]] = rival[nearer], squared[nearer]
        size_K = self._sizes(label_N)
        if (size_K[pair] < self.min_size).any() or ((size_K < self.min_size) & (size_K < self.size_K)).any():
            return False
        self.codes_KD, self.active_K, self.label_N, self.squared_N, self.size_K = codes_KD, active_K, label_N, squared_N, size_K
        return True

    def _sizes(self, label_N: np.ndarray) -> np.ndarray:
        return np.bincount(label_N, minlength=len(self.codes_KD))

    @staticmethod
    def _assign(x_ND: np.ndarray, codes_KD: np.ndarray, active_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = np.flatnonzero(active_K).astype(np.int32)
        label_N, squared_N = nearest_codes(x_ND, codes_KD[ids])
        return ids[label_N], squared_N


def _halves(x_ND: np.ndarray) -> np.ndarray:
    """Means of the two halves along the main axis, float32 [2, D]."""
    centred = x_ND.astype(np.float64) - x_ND.mean(axis=0, dtype=np.float64)
    axis = np.linalg.eigh(centred.T @ centred)[1][:, -1]
    axis *= np.sign(axis[np.abs(axis).argmax()])
    order = np.argsort(centred @ axis, kind="stable")
    lower, upper = np.array_split(order, 2)
    return np.stack([x_ND[lower].mean(axis=0), x_ND[upper].mean(axis=0)]).astype(np.float32)
