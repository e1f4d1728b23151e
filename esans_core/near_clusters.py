"""Which primary clusters easy negatives come from: P(q | p) = softmax(-dist(c_p, c_q) / temperature), in a bounded table.

A table over all pairs of K clusters takes 12 K^2 bytes, which is 1.2 GB at 10,000. Above a bound, only the J nearest clusters
of each are kept, in 16 K J bytes, and P is the softmax over those. A cluster that is left out is never drawn and has
probability zero, so the stated probabilities are exactly those of the draws.

Shape legend: K primary clusters, J kept for each (J = K if all are kept), B positives, C draws, n items.
"""

import torch
from torch import Tensor

TABLE_BYTES = 64_000_000
_LEAST_NEAR = 16  # kept even if that exceeds the bound, which happens above 250,000 clusters
_ALL_ENTRY, _NEAR_ENTRY = 12, 16  # bytes: float64 cumulative and float32 count; int32 numbers too if some clusters are left out
_BLOCK_VALUES = 1 << 23  # distances held while the table is made: 64 MB of float64
_LARGEST_UNIFORM = 1.0 - 2.0**-30  # keeps p + u inside row p of the cumulative table after float64 rounding


class NearClusters:
    """Draws other clusters for a positive's own cluster, and knows how often the items of each are expected.

    Args:
        centroids: float [K, d], primary codes.
        drawable_K: bool [K], clusters that may be drawn; a positive's own cluster is never drawn for it.
        counts_K: float [K], expected count of each item of a cluster if that cluster were drawn with certainty.
        temperature: temperature of the softmax.
        max_near: J, how many of the nearest are kept. None keeps all if their table has at most `TABLE_BYTES`, and otherwise
            as many as fit.

    Attributes:
        num_kept: J.
        has_any_K: bool [K], whether anything can be drawn for a positive of the cluster.
    """

    def __init__(
        self, centroids: Tensor, drawable_K: Tensor, counts_K: Tensor, temperature: float, max_near: int | None = None
    ) -> None:
        num_clusters, device = len(centroids), centroids.device
        self.num_kept = _num_kept(num_clusters, max_near)
        shape = (num_clusters, self.num_kept)
        self._cumulative = torch.empty(shape, dtype=torch.float64, device=device)
        self._counts_KJ = torch.empty(shape, device=device)
        self._near_KJ = None if self.num_kept == num_clusters else torch.empty(shape, dtype=torch.int32, device=device)
        self.has_any_K = torch.empty(num_clusters, dtype=torch.bool, device=device)
        centroids = centroids.double()
        centred = centroids - centroids.mean(0)
        rows_held = max(1, _BLOCK_VALUES // max(1, num_clusters))
        for rows_b in torch.arange(num_clusters, device=device).split(rows_held):
            allowed_bK = drawable_K.expand(len(rows_b), -1).scatter(1, rows_b[:, None], False)
            if self._near_KJ is None:
                distance = torch.cdist(centroids[rows_b], centroids, compute_mode="donot_use_mm_for_euclid_dist")
                allowed, counts = allowed_bK, counts_K
            else:
                near_bJ, distance = _nearest(centred, rows_b, allowed_bK, self.num_kept)
                allowed, counts = allowed_bK.gather(1, near_bJ), counts_K[near_bJ]
                self._near_KJ[rows_b] = near_bJ.int()
            score = (-distance / temperature).masked_fill(~allowed, -torch.inf)
            probability = torch.softmax(score, dim=1).nan_to_num_(0.0)
            self._cumulative[rows_b] = probability.cumsum(1) + rows_b[:, None]
            self._counts_KJ[rows_b] = (probability * counts).float()
            self.has_any_K[rows_b] = probability.sum(1) > 0
        self._cumulative = self._cumulative.flatten()

    @property
    def nbytes(self) -> int:
        """Bytes of the tables."""
        near = 0 if self._near_KJ is None else self._near_KJ.nbytes
        return self._cumulative.nbytes + self._counts_KJ.nbytes + self.has_any_K.nbytes + near

    def draw(self, primary_B: Tensor, uniform_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Draw clusters by inverse transform: one binary search in a sorted array that holds the whole table.

        Args:
            primary_B: int64 [B], the positives' own clusters.
            uniform_BC: float64 [B, C] on [0, 1); overwritten.

        Returns:
            int64 [B, C], the clusters drawn, and float32 [B, C], the expected count of each item of them. Both mean nothing
            where `has_any_K` is False.
        """
        target = primary_B[:, None] + uniform_BC.clamp_max_(_LARGEST_UNIFORM)
        flat = torch.searchsorted(self._cumulative, target, right=True).clamp_(max=max(0, self._cumulative.numel() - 1))
        cluster_BC = flat % max(1, self.num_kept) if self._near_KJ is None else self._near_KJ.view(-1)[flat].long()
        return cluster_BC, self._counts_KJ.view(-1)[flat]

    def expected_counts(self, primary_B: Tensor, own_B: Tensor, counted_B: Tensor, cluster: Tensor) -> Tensor:
        """How often an item of a cluster is expected, for positives of the given clusters.

        Args:
            primary_B: int64 [B].
            own_B: float32 [B], the count to give the items of the positive's own cluster.
            counted_B: bool [B]; every count is zero where it is False.
            cluster: int64 [n] (the same for every positive) or [B, n], 0 to K; K stands for no cluster.

        Returns:
            float32 [B, n].
        """
        if self._near_KJ is None:
            table_BK = torch.nn.functional.pad(self._counts_KJ[primary_B], (0, 1))  # the last column is for no cluster
            table_BK.scatter_(1, primary_B[:, None], own_B[:, None]).masked_fill_(~counted_B[:, None], 0.0)
            return table_BK.index_select(1, cluster) if cluster.dim() == 1 else table_BK.gather(1, cluster)
        near_BJ = self._near_KJ[primary_B]  # ascending in each row
        cluster_Bn = cluster.int().expand(len(primary_B), -1).contiguous()
        place_Bn = torch.searchsorted(near_BJ, cluster_Bn).clamp_(max=self.num_kept - 1)
        counts_Bn = self._counts_KJ[primary_B].gather(1, place_Bn)
        counts_Bn.masked_fill_(near_BJ.gather(1, place_Bn) != cluster_Bn, 0.0)
        counts_Bn = torch.where(cluster_Bn == primary_B[:, None], own_B[:, None], counts_Bn)
        return counts_Bn.masked_fill_(~counted_B[:, None], 0.0)

    def batch_expected_counts(self, primary_B: Tensor, counted_B: Tensor, positives_K: Tensor) -> Tensor:
        """float32 [K]: how often an item of each cluster is expected for all positives together.

        Args:
            primary_B: int64 [B].
            counted_B: float32 [B], 1 for the positives that count and 0 for the others.
            positives_K: float32 [K], how many positives of each cluster count.
        """
        if self._near_KJ is None:
            return positives_K @ self._counts_KJ
        counts_BJ = self._counts_KJ[primary_B] * counted_B[:, None]
        return torch.zeros_like(positives_K).index_add_(0, self._near_KJ[primary_B].flatten(), counts_BJ.flatten())


def _num_kept(num_clusters: int, max_near: int | None) -> int:
    """J: `max_near` if given; else all clusters if their table is within the bound, and otherwise as many as are."""
    if max_near is None:
        if _ALL_ENTRY * num_clusters**2 <= TABLE_BYTES:
            return num_clusters
        max_near = max(_LEAST_NEAR, TABLE_BYTES // (_NEAR_ENTRY * num_clusters))
    return min(max_near, num_clusters)


def _nearest(centred_KD: Tensor, rows_b: Tensor, allowed_bK: Tensor, num_kept: int) -> tuple[Tensor, Tensor]:
    """The `num_kept` nearest allowed clusters of some clusters, int64 [b, J] ascending, and the distances, float64 [b, J].

    It is one product in double precision. The centroids are taken relative to their mean, because the product would lose the
    differences far from the origin. If fewer clusters are allowed, others fill the rest.
    """
    norm_K = centred_KD.square().sum(1)
    squared_bK = torch.addmm(norm_K, centred_KD[rows_b], centred_KD.T, alpha=-2).add_(norm_K[rows_b, None]).clamp_min_(0)
    near = squared_bK.masked_fill(~allowed_bK, torch.inf).topk(num_kept, dim=1, largest=False, sorted=False).indices
    near_bJ = near.sort(dim=1).values
    return near_bJ, squared_bK.gather(1, near_bJ).sqrt_()
