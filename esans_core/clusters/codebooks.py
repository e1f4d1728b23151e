"""Cascaded codebooks: the primary one quantises the mean of an item's views, the secondary one how each view differs from it.

Source: ESANS (WWW 2025, arXiv 2502.16077), section on MSAC, figures 2b and 3. Two items with the same mean and different
views share the primary cluster. Only the *concatenated* residuals tell them apart, so the residuals are not averaged.
Shapes: N items, M modalities, D aligned dimensions, P primary codes, S secondary codes, C secondary codebooks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from esans_core.clusters.cluster_quality import ClusterQuality, cluster_quality
from esans_core.clusters.nearest import nearest_codes
from esans_core.clusters.repair import Repair, repair_small_clusters

_BLOCK_ROWS = 16_384


@dataclass(frozen=True)
class Assignment:
    """Clusters of N items.

    Attributes:
        primary: int32 [N], -1 for an item without any view.
        secondary: int32 [N], -1 for an item without any view.
        distance: float32 [N], Euclidean, from the mean of the views to the primary code; NaN without any view.
    """

    primary: np.ndarray
    secondary: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True, eq=False)
class Codebooks:
    """Both codebooks.

    Attributes:
        primary_PD: float32 [P, D].
        active_P: bool [P]; False for a code that repair had to retire. No item is assigned to such a code.
        secondary_CSE: float32 [C, S, M * D]; C is 1 (all primary clusters share one) or P (each primary cluster has its own).
    """

    primary_PD: np.ndarray
    active_P: np.ndarray
    secondary_CSE: np.ndarray

    @property
    def per_primary(self) -> bool:
        """Whether each primary cluster has a secondary codebook of its own."""
        return len(self.secondary_CSE) > 1

    def assign(self, aligned_NMD: np.ndarray, present_NM: np.ndarray, *, block_rows: int = _BLOCK_ROWS) -> Assignment:
        """Nearest code of each item on both levels; the block size changes memory, never the result.

        Args:
            aligned_NMD: float32 [N, M, D], zero where a view is absent.
            present_NM: bool [N, M].
            block_rows: items worked on at once.

        Raises:
            ValueError: shapes do not fit these codebooks, or a value is not finite.
        """
        if aligned_NMD.shape[1] * aligned_NMD.shape[2] != self.secondary_CSE.shape[2]:
            raise ValueError(
                f"views of shape {list(aligned_NMD.shape)} do not fit codes of {self.secondary_CSE.shape[2]} values"
            )
        count = len(aligned_NMD)
        primary, secondary = np.full(count, -1, np.int32), np.full(count, -1, np.int32)
        distance = np.full(count, np.nan, np.float32)
        seen_N, ids = np.asarray(present_NM.any(axis=1)), np.flatnonzero(self.active_P)
        for start in range(0, count, block_rows):
            rows = start + np.flatnonzero(seen_N[start : start + block_rows])
            aligned, present = aligned_NMD[rows], present_NM[rows]
            nearest, squared = nearest_codes(mean_view(aligned, present), self.primary_PD[ids])
            primary[rows] = ids[nearest]
            distance[rows] = np.sqrt(squared)
            residual_NE = residuals(aligned, present, self.primary_PD, primary[rows])
            secondary[rows] = self._secondary(residual_NE, primary[rows])
        return Assignment(primary, secondary, distance)

    def _secondary(self, residual_NE: np.ndarray, primary_N: np.ndarray) -> np.ndarray:
        if not self.per_primary:
            return nearest_codes(residual_NE, self.secondary_CSE[0])[0]
        out = np.empty(len(residual_NE), np.int32)
        for code, rows in rows_by_code(primary_N):
            out[rows] = nearest_codes(residual_NE[rows], self.secondary_CSE[code])[0]
        return out

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays by name, for saving."""
        return {"primary": self.primary_PD, "active": self.active_P, "secondary": self.secondary_CSE}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Codebooks":
        """Codebooks saved by `to_arrays`."""
        return cls(arrays["primary"], arrays["active"], arrays["secondary"])


@dataclass(frozen=True)
class FitReport:
    """What a fit did, and what the clusters of the items it was fitted on are like.

    Attributes:
        warm: whether it started from earlier codebooks.
        sizes_before: items of each primary code before repair.
        sizes: items of each primary code after repair.
        repairs: each repair, in order.
        retired: primary codes left without a place.
        primary: quality of the primary level.
        secondary: quality of the secondary level, all primary clusters together.
        pairs_in_use: (primary, secondary) pairs that hold an item.
    """

    warm: bool
    sizes_before: tuple[int, ...]
    sizes: tuple[int, ...]
    repairs: tuple[Repair, ...]
    retired: tuple[int, ...]
    primary: ClusterQuality
    secondary: ClusterQuality
    pairs_in_use: int


def fit_codebooks(
    aligned: np.ndarray,
    present: np.ndarray,
    *,
    num_primary: int,
    num_secondary: int,
    min_cluster_size: int,
    secondary_per_primary: bool = False,
    seed: int,
    initial: Codebooks | None = None,
    iterations: int = 50,
) -> tuple[Codebooks, FitReport]:
    """Fit both codebooks with k-means and repair primary clusters that come out too small.

    Args:
        aligned: float32 [N, M, D], zero where a view is absent.
        present: bool [N, M]; items without any view are left out.
        num_primary: P.
        num_secondary: S.
        min_cluster_size: m_o; every primary cluster in use holds at least this many of the items given.
        secondary_per_primary: a secondary codebook for each primary cluster.
        seed: seed of k-means.
        initial: earlier codebooks to start from, of the same shapes; labels then stay comparable.
        iterations: iterations of k-means.

    Raises:
        ValueError: fewer items have a view than `num_primary * min_cluster_size` or than `num_secondary`, or `initial`
            has other shapes.
    """
    usable = present.any(axis=1)
    aligned_NMD, present_NM = aligned[usable], present[usable]
    count, modalities, dim = aligned_NMD.shape
    needed = max(num_primary * min_cluster_size, num_secondary)
    if count < needed:
        raise ValueError(
            f"{count} items with a view cannot fill {num_primary} primary clusters of at least {min_cluster_size} and "
            f"{num_secondary} secondary codes: {needed} are needed"
        )
    shape = (num_primary if secondary_per_primary else 1, num_secondary, modalities * dim)
    if initial is not None and (initial.primary_PD.shape != (num_primary, dim) or initial.secondary_CSE.shape != shape):
        raise ValueError("initial codebooks have other shapes than asked for; fit without them")

    mean_ND = mean_view(aligned_NMD, present_NM)
    primary_PD, active_P = np.zeros((num_primary, dim), np.float32), np.ones(num_primary, bool)
    if initial is not None:
        primary_PD, active_P = initial.primary_PD.copy(), initial.active_P
    start = primary_PD[active_P] if initial is not None else None
    primary_PD[active_P] = _k_means(mean_ND, int(active_P.sum()), seed, iterations, start)
    sizes_before = np.zeros(num_primary, np.int64)
    sizes_before[active_P] = np.bincount(nearest_codes(mean_ND, primary_PD[active_P])[0], minlength=int(active_P.sum()))
    repaired = repair_small_clusters(mean_ND, primary_PD, min_cluster_size, active_P)

    residual_NE = residuals(aligned_NMD, present_NM, repaired.codes_KD, repaired.label_N)
    groups = rows_by_code(repaired.label_N) if secondary_per_primary else [(0, np.arange(count))]
    secondary_CSE = np.zeros(shape, np.float32) if initial is None else initial.secondary_CSE.copy()
    for code, rows in groups:
        # A cluster with fewer items than codes gets a code for each item. The other codes repeat the first one. They are never
        # used, because ties go to the lowest code.
        size = min(num_secondary, len(rows))
        start = None if initial is None or size < num_secondary else initial.secondary_CSE[code]
        secondary_CSE[code, :size] = _k_means(residual_NE[rows], size, seed, iterations, start)
        secondary_CSE[code, size:] = secondary_CSE[code, 0]

    codebooks = Codebooks(repaired.codes_KD, repaired.active_K, secondary_CSE)
    secondary_N = codebooks._secondary(residual_NE, repaired.label_N)
    gap = residual_NE - secondary_CSE[repaired.label_N if secondary_per_primary else 0, secondary_N]
    return codebooks, FitReport(
        warm=initial is not None,
        sizes_before=tuple(sizes_before.tolist()),
        sizes=tuple(np.bincount(repaired.label_N, minlength=num_primary).tolist()),
        repairs=repaired.repairs,
        retired=tuple(np.flatnonzero(~repaired.active_K).tolist()),
        primary=cluster_quality(repaired.label_N, num_primary, repaired.squared_N),
        secondary=cluster_quality(secondary_N, num_secondary, np.einsum("ne,ne->n", gap, gap)),
        pairs_in_use=len(np.unique(repaired.label_N.astype(np.int64) * num_secondary + secondary_N)),
    )


def mean_view(aligned_NMD: np.ndarray, present_NM: np.ndarray) -> np.ndarray:
    """Mean of the views present, float32 [N, D], which the primary codebook quantises; absent views must be zero.

    It is not brought back to length 1. Residuals are differences from the code, and a code that is longer than the mean of its
    items leaves the same gap in all of them. On TikTok, the clusters then say less about what is used together (docs/LOG.md).
    """
    count_N1 = np.maximum(present_NM.sum(axis=1, keepdims=True), 1).astype(np.float32)
    return aligned_NMD.sum(axis=1) / count_N1


def residuals(aligned_NMD: np.ndarray, present_NM: np.ndarray, primary_PD: np.ndarray, primary_N: np.ndarray) -> np.ndarray:
    """Each view minus the item's primary code, zero for an absent view, side by side: float32 [N, M * D]."""
    residual_NMD = aligned_NMD - primary_PD[primary_N][:, None, :]
    residual_NMD *= present_NM[:, :, None]
    return residual_NMD.reshape(len(residual_NMD), aligned_NMD.shape[1] * aligned_NMD.shape[2])


def rows_by_code(label_N: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Codes in use, ascending, each with the rows that carry it."""
    order = np.argsort(label_N, kind="stable")
    codes, starts = np.unique(label_N[order], return_index=True)
    return list(zip(codes.tolist(), np.split(order, starts[1:]), strict=True)) if len(codes) else []


def _k_means(x_ND: np.ndarray, num_codes: int, seed: int, iterations: int, initial_KD: np.ndarray | None) -> np.ndarray:
    """k-means codes, float32 [K, D], over all vectors given."""
    import faiss

    k_means = faiss.Kmeans(
        x_ND.shape[1],
        num_codes,
        niter=iterations,
        seed=seed % 2**31,
        min_points_per_centroid=1,
        max_points_per_centroid=max(1, len(x_ND)),
    )
    k_means.train(np.ascontiguousarray(x_ND, np.float32), init_centroids=initial_KD)
    return np.asarray(k_means.centroids)
