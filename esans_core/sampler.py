"""Semantic-aware negative sampling (ESANS, WWW 2025, arXiv 2502.16077, Figure 2c): easy and hard negatives from clusters.

For a positive in primary cluster p and group (p, s):

- easy: m_c other primary clusters q, each drawn with probability P(q | p) = softmax(-dist(c_p, c_q) / temperature), over all of
  them or the nearest (`esans_core.near_clusters`), then m_o distinct items in each;
- hard: items of p outside (p, s), uniformly, with replacement;
- items of (p, s) are never drawn: they are the likely false negatives.

No draw is thrown away. An easy cluster takes one binary search in a sorted array that holds the whole table P. A hard negative
is one integer below |p| - |p, s|, moved past the gap that the positive's own group leaves in its cluster's run.

Shape legend: B positives, C = m_c easy clusters, M = m_o items in each, H hard negatives, K = K_p primary clusters.
"""

import torch
from torch import Tensor

from esans_core.cluster_index import ClusterIndex
from esans_core.defaults import SAMPLER
from esans_core.near_clusters import NearClusters
from esans_core.semantic_negatives import SemanticNegatives

_BITS = 32  # (32 random bits * n) >> 32 is uniform on 0..n-1 to within n / 2^32, and exact in int64 for n < 2^31


class SemanticNegativeSampler:
    """Draws easy and hard negatives, and knows how often it draws which item.

    Args:
        index: the cluster index; the sampler lives on its device.
        centroids: float [K_p, d], primary codes, for the distances between clusters.
        num_easy_clusters: m_c, clusters drawn per positive (with replacement, so that proposals stay in closed form).
        items_per_cluster: m_o, distinct items drawn in each; clusters with fewer items are never drawn as easy.
        num_hard: hard negatives per positive.
        easy_temperature: temperature of the softmax over negative Euclidean distances; the paper's is 1.
        max_near_clusters: easy clusters are drawn among so many nearest ones. None: among all if their table has at most 64 MB
            (2,309 primary clusters), else among as many as fit. So the table grows at most with K_p, not with its square.

    Raises:
        ValueError: a count is negative, the temperature or `max_near_clusters` is not positive, or the centroids do not fit the
            index.
    """

    def __init__(
        self,
        index: ClusterIndex,
        centroids: Tensor,
        *,
        num_easy_clusters: int = SAMPLER.num_easy_clusters,
        items_per_cluster: int = SAMPLER.items_per_cluster,
        num_hard: int = SAMPLER.num_hard,
        easy_temperature: float = SAMPLER.easy_temperature,
        max_near_clusters: int | None = None,
    ) -> None:
        if num_easy_clusters < 0 or num_hard < 0 or items_per_cluster < 1:
            raise ValueError(
                "num_easy_clusters and num_hard must be at least 0 and items_per_cluster at least 1, got "
                f"{num_easy_clusters}, {num_hard}, {items_per_cluster}"
            )
        if easy_temperature <= 0:
            raise ValueError(f"easy_temperature must be positive, got {easy_temperature}")
        if max_near_clusters is not None and max_near_clusters < 1:
            raise ValueError(f"max_near_clusters must be at least 1, or None for as many as fit, got {max_near_clusters}")
        if centroids.dim() != 2 or len(centroids) != index.num_primary:
            raise ValueError(f"centroids must be [{index.num_primary}, d] to fit the index, got {list(centroids.shape)}")
        self.index = index
        self.num_easy_clusters, self.items_per_cluster, self.num_hard = num_easy_clusters, items_per_cluster, num_hard
        self._primary_sizes = index.primary_sizes
        self._group_sizes = index.group_sizes
        self._hard_pool_G = self._primary_sizes[index.group_primary] - self._group_sizes
        self._near = NearClusters(
            centroids.to(index.device),
            self._primary_sizes >= items_per_cluster,
            num_easy_clusters * items_per_cluster / self._primary_sizes.clamp_min(1),
            easy_temperature,
            max_near_clusters,
        )
        self._hard_rate_G = torch.where(self._hard_pool_G > 0, num_hard / self._hard_pool_G.clamp_min(1), 0.0).float()

    @property
    def num_draws(self) -> int:
        """Draws for each positive, easy and hard."""
        return self.num_easy_clusters * self.items_per_cluster + self.num_hard

    @property
    def num_near_clusters(self) -> int:
        """Primary clusters among which the easy ones of a positive are drawn: all, or the nearest (`max_near_clusters`)."""
        return self._near.num_kept

    @property
    def near_bytes(self) -> int:
        """Bytes of the table of near clusters."""
        return self._near.nbytes

    @property
    def nbytes(self) -> int:
        """Bytes of the sampler's own tables, without the index."""
        own = (self._primary_sizes, self._group_sizes, self._hard_pool_G, self._hard_rate_G)
        return self.near_bytes + sum(table.nbytes for table in own)

    def sample(self, positives: Tensor, generator: torch.Generator | None = None) -> SemanticNegatives:
        """Draw negatives for each positive.

        Args:
            positives: int64 [B], items on the index's device.
            generator: source of randomness on that device; the same state gives the same draws.
        """
        group_B = self.index.group(positives)
        clustered_B = group_B >= 0
        group_B = group_B.clamp_min(0)
        if len(self.index.group_primary) == 0:  # no item has a cluster, so there is nothing to look up below
            items_BR, nothing_B = positives[:, None].expand(-1, self.num_draws), torch.zeros_like(clustered_B)
            no_counts_B = torch.zeros(len(positives), device=positives.device)
            return self._negatives(items_BR, nothing_B, nothing_B, no_counts_B[:, None], no_counts_B)
        primary_B = self.index.group_primary[group_B]
        easy_valid_B = clustered_B & self._near.has_any_K[primary_B]
        hard_valid_B = clustered_B & (self._hard_pool_G[group_B] > 0)
        # All random numbers come first: the rest is one function of them, which can be compiled as a whole.
        uniform_BC, bits_BCM, bits_BH = self._random(len(positives), generator)
        cluster_BC, easy_counts_BC = self._near.draw(primary_B, uniform_BC)
        easy_BCM = self._easy(cluster_BC, bits_BCM)
        easy_BR = torch.where(easy_valid_B[:, None], easy_BCM.flatten(1), positives[:, None])
        hard_BH = torch.where(hard_valid_B[:, None], self._hard(primary_B, group_B, bits_BH), positives[:, None])
        return self._negatives(
            torch.cat([easy_BR, hard_BH], dim=1), easy_valid_B, hard_valid_B, easy_counts_BC, self._hard_rate_G[group_B]
        )

    def _negatives(
        self, items_BR: Tensor, easy_valid_B: Tensor, hard_valid_B: Tensor, easy_counts_BC: Tensor, hard_counts_B: Tensor
    ) -> SemanticNegatives:
        easy_BR, hard_BH = items_BR.split([self.num_draws - self.num_hard, self.num_hard], dim=1)
        easy_BCM = easy_BR.unflatten(1, (self.num_easy_clusters, self.items_per_cluster))
        easy_counts_BC = easy_counts_BC.expand(-1, self.num_easy_clusters)
        return SemanticNegatives(items_BR, easy_BCM, hard_BH, easy_valid_B, hard_valid_B, easy_counts_BC, hard_counts_B)

    def expected_counts(self, positives: Tensor, items: Tensor) -> Tensor:
        """How many times each item is expected among the draws for each positive: easy and hard together, in closed form.

        Per draw the proposal is P(q | p) / |q| for an easy item of cluster q and 1 / (|p| - |p, s|) for a hard one.

        Args:
            positives: int64 [B].
            items: int64 [n] (the same for every positive) or [B, n].

        Returns:
            float32 [B, n]; zero for items that are never drawn for that positive.
        """
        if len(self.index.group_primary) == 0:
            return torch.zeros(len(positives), items.shape[-1], device=items.device)
        group_B, group = self.index.group(positives), self.index.group(items)
        known_B = group_B.clamp_min(0)
        cluster = torch.where(group < 0, self.index.num_primary, self.index.group_primary[group.clamp_min(0)])
        primary_B, own_B = self.index.group_primary[known_B], self._hard_rate_G[known_B]
        # For the positive's own cluster this is the hard count; the items of the positive's own group get zero.
        counts = self._near.expected_counts(primary_B, own_B, group_B >= 0, cluster)
        return counts.masked_fill_(group == group_B[:, None], 0.0)

    def batch_expected_counts(self, positives: Tensor, items: Tensor) -> Tensor:
        """How many times each item is expected among the draws for all positives together: `expected_counts` summed over B.

        It is computed from counts per cluster and per group. This takes O(K_p^2 + items), or O(B J + items) if only the J
        nearest clusters are kept, instead of O(B items).

        Args:
            positives: int64 [B].
            items: int64 of any shape.

        Returns:
            float32 of the items' shape.
        """
        num_groups = len(self.index.group_primary)
        if num_groups == 0:
            return torch.zeros(items.shape, device=items.device)
        group_B = self.index.group(positives)
        counted_B, known_B = (group_B >= 0).float(), group_B.clamp_min(0)
        positives_G = torch.zeros_like(self._hard_rate_G).index_add_(0, known_B, counted_B)
        positives_K = torch.zeros(self.index.num_primary, device=self.index.device)
        positives_K.index_add_(0, self.index.group_primary, positives_G)
        easy_K = self._near.batch_expected_counts(self.index.group_primary[known_B], counted_B, positives_K)
        hard_G = positives_G * self._hard_rate_G
        hard_K = torch.zeros_like(easy_K).index_add_(0, self.index.group_primary, hard_G)
        count_G = (easy_K + hard_K)[self.index.group_primary] - hard_G
        group = self.index.group(items)
        return torch.where(group >= 0, count_G[group.clamp_min(0)], 0.0)

    def _random(self, count: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Random numbers for `count` positives: float64 [B, C] on [0, 1), and bits as int64 [B, C, M] and [B, H]."""
        shape, device = (count, self.num_easy_clusters), self.index.device
        uniform_BC = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        bits_BCM = torch.randint(0, 2**_BITS, (*shape, self.items_per_cluster), generator=generator, device=device)
        bits_BH = torch.randint(0, 2**_BITS, (count, self.num_hard), generator=generator, device=device)
        return uniform_BC, bits_BCM, bits_BH

    def _easy(self, cluster_BC: Tensor, bits_BCM: Tensor) -> Tensor:
        """m_o distinct items of each cluster (Floyd's algorithm)."""
        size_BC = self._primary_sizes[cluster_BC]
        picked: list[Tensor] = []
        for m, bits_BC in enumerate(bits_BCM.unbind(-1)):
            last_BC = (size_BC - self.items_per_cluster + m).clamp_min(0)
            rank_BC = (bits_BC * (last_BC + 1)) >> _BITS
            for earlier in picked:
                rank_BC = torch.where(rank_BC == earlier, last_BC, rank_BC)
            picked.append(rank_BC)
        rank_BCM = torch.stack(picked, dim=-1)
        position = self.index.primary_offsets[cluster_BC][..., None] + rank_BCM
        return self.index.order[position.clamp_(max=len(self.index.order) - 1)].long()

    def _hard(self, primary_B: Tensor, group_B: Tensor, bits_BH: Tensor) -> Tensor:
        """A rank among the items of the primary cluster outside the group, moved past the group's run."""
        rank_BH = (bits_BH * self._hard_pool_G[group_B][:, None]) >> _BITS
        start_B = self.index.primary_offsets[primary_B]
        gap_B = self.index.group_offsets[group_B] - start_B
        rank_BH += torch.where(rank_BH >= gap_B[:, None], self._group_sizes[group_B][:, None], 0)
        position = (start_B[:, None] + rank_BH).clamp_(max=len(self.index.order) - 1)
        return self.index.order[position].long()
