"""The softmax of a step over all its negatives, whichever source they come from.

Each logit is corrected by the log of how often its item is expected among all draws. Negatives drawn for each positive are
scored row by row (`esans_core.rows`). Negatives that the batch shares take one matrix product (`esans_core.shared_softmax`).

Shape legend: B positives, b of them this process's rows (all, where there is one process), S shared negatives, R negatives for
each positive, D dimension.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esans_core.cache import EmbeddingCache
from esans_core.cluster_index import ClusterIndex
from esans_core.negative_sources import Expected, NegativeSources
from esans_core.recipes import RowLoss
from esans_core.rows import Positives, Rows
from esans_core.shared_softmax import NEVER, matches, summed_log_partition


@dataclass(frozen=True)
class ScoredStep:
    """The items that a step scores, and their embeddings.

    Attributes:
        positives_B: int64 [B], positives of the whole batch.
        positives_b: int64 [b], this process's positives.
        rows: negatives of each of those.
        vectors: embeddings of these negatives.
        shared_S: int64 [S], the shared negatives, each item once if that is worth it.
        copies_S: float32 [S], how often each of them counts.
        shared_SD: float32 [S, D], their embeddings.
        positives_bD: float32 [b, D], embeddings of this process's positives.
        product: type of the product of users and shared negatives.
        own_bE: int64 [b, E], items of each row's user, which are no negatives of that row; -1 where there is none, or None.
        cache: the cache from which the last shared negatives come; these were not drawn in this step.
    """

    positives_B: Tensor
    positives_b: Tensor
    rows: list[Rows]
    vectors: list[tuple[Tensor, ...]]
    shared_S: Tensor
    copies_S: Tensor
    shared_SD: Tensor
    positives_bD: Tensor
    product: torch.dtype
    own_bE: Tensor | None = None
    cache: EmbeddingCache | None = None

    def with_cached(self, cache: EmbeddingCache) -> "ScoredStep":
        """The step with the cached items added after the shared negatives; no gradient flows through its vectors."""
        return replace(
            self,
            vectors=[tuple(vector.detach() for vector in vectors) for vectors in self.vectors],
            shared_S=torch.cat([self.shared_S, cache.items]),
            copies_S=torch.cat([self.copies_S, self.copies_S.new_ones(len(cache))]),
            shared_SD=torch.cat([self.shared_SD.detach(), cache.vectors]),
            positives_bD=self.positives_bD.detach(),
            cache=cache,
        )


class StepSoftmax:
    """Scores the negatives of a step.

    Args:
        sources: where the negatives come from; they know how often each item is expected.
        same_group_weight: weight of a shared negative that is of the positive's own cluster.
        index: the clusters; needed if that weight is not 1.
        row_loss: takes the place of the softmax, where all negatives are drawn for each positive.
    """

    def __init__(
        self,
        sources: NegativeSources,
        same_group_weight: float,
        index: ClusterIndex | None,
        row_loss: RowLoss | None = None,
    ) -> None:
        self._sources, self._same_group_weight, self._row_loss = sources, same_group_weight, row_loss
        self._group_index = index if same_group_weight != 1 else None

    def losses(self, step: ScoredStep, users_bD: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of this process's rows.

        Args:
            step: what is scored.
            users_bD: float32 [b, D], divided by the temperature.

        Returns:
            Their sum, a float32 scalar, and each of them, float32 [b].
        """
        at = Positives(users_bD, step.positives_b, step.positives_bD, (users_bD * step.positives_bD).sum(-1))
        items = [step.shared_S, *(each.items_BR for each in step.rows)]
        # Count all items at once, then split the result.
        more = () if step.cache is None else (step.cache,)
        expected = self._sources.expected(step.positives_B, torch.cat([each.flatten() for each in items]), more)
        of_shared, *of_rows = expected.split(items)
        logits = [at.logits_b[:, None]]
        for each, vectors, counts in zip(step.rows, step.vectors, of_rows, strict=True):
            log_counts = self._sources.log_counts(counts, step.positives_b, each.items_BR)
            logits += each.logits(at, vectors, log_counts)
        if self._row_loss is not None:
            loss_b = self._row_loss.losses(at.logits_b, torch.cat(logits[1:], dim=1), self._sources.num_items)
            return loss_b.sum(), loss_b.detach()
        log_sum_b = torch.cat(logits, dim=1).logsumexp(1)
        log_sum = log_sum_b.sum()
        if len(step.shared_S):
            log_sum, log_sum_b = self._with_shared(step, of_shared, log_sum_b, users_bD)
        return log_sum - at.logits_b.sum(), log_sum_b - at.logits_b

    def _with_shared(self, step: ScoredStep, expected: Expected, others_b: Tensor, users_bD: Tensor) -> tuple[Tensor, Tensor]:
        """Log-partitions with the shared negatives, which are corrected and count as often as drawn: sum and float32 [b]."""
        sources, positives_b, shared_S = self._sources, step.positives_b, step.shared_S
        log_copies_S = step.copies_S.log().clamp_min(NEVER)

        def log_weights(rows: slice) -> Tensor:
            weights = log_copies_S - sources.log_counts(expected, positives_b[rows], shared_S)
            if self._group_index is not None:
                weight = self._same_group_weight
                group_b, group_S = self._group_index.group(positives_b[rows]), self._group_index.group(shared_S)
                same = (group_b[:, None] == group_S) & (group_S >= 0)
                weights = weights + same * (math.log(weight) if weight > 0 else NEVER)
            return weights if sources.may_look else weights.masked_fill(self._excluded(step, rows), NEVER)

        excluded = self._excluded_pairs(step) if sources.may_look else None
        return summed_log_partition(others_b, users_bD, step.shared_SD, log_weights, excluded, step.product)

    @staticmethod
    def _excluded_pairs(step: ScoredStep) -> tuple[Tensor, Tensor]:
        """Pairs (b, s) of a row and a shared negative that must not count for it, b ascending."""
        if step.own_bE is None:
            return matches(step.positives_b, step.shared_S)
        own_bE = torch.cat([step.positives_b[:, None], step.own_bE], dim=1)
        row, column = matches(own_bE.flatten(), step.shared_S)
        return row // own_bE.shape[1], column

    @staticmethod
    def _excluded(step: ScoredStep, rows: slice) -> Tensor:
        """bool [rows, S], the same pairs for some rows, found without a number that the host would wait for."""
        found = step.positives_b[rows, None] == step.shared_S
        if step.own_bE is None:
            return found
        for own_b in step.own_bE[rows].unbind(1):
            found = found | (own_b[:, None] == step.shared_S)
        return found
