"""The softmax of a step over all its negatives, whichever source they come from.

Each logit is corrected by the log of how often its item is expected among all draws. Negatives drawn for each positive are
scored row by row (`esans_core.rows`). Negatives that the batch shares take one matrix product (`esans_core.shared_softmax`).
In a log without order, all rows of an excerpt may share their scores too: those of the user of the whole excerpt.

Shape legend: B positives, b of them this process's rows (all, where there is one process), S shared negatives, R negatives for
each positive, w excerpts, E events of an excerpt, D dimension.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from esans_core.cache import EmbeddingCache
from esans_core.cluster_index import ClusterIndex
from esans_core.members import part_of
from esans_core.negative_sources import Expected, NegativeSources
from esans_core.parts import Excerpts
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
        excerpts: the excerpts that this process's rows come from; their users are divided by the temperature.
        cache: the cache from which the last shared negatives come; these were not drawn in this step.
        weights_b: float32 [b], how much each of this process's rows counts; None if all count 1.
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
    excerpts: Excerpts | None = None
    cache: EmbeddingCache | None = None
    weights_b: Tensor | None = None

    def weighted_sum(self, values_b: Tensor) -> Tensor:
        """Sum of a value of each row, float32 [b], by the weights of the rows."""
        return (values_b if self.weights_b is None else values_b * self.weights_b).sum()

    def of_member(self, member: int, members: int) -> "ScoredStep":
        """The step with the vectors of one member of an ensemble (`esans_core.members.part_of`)."""
        if members == 1:
            return self
        part = partial(part_of, member=member, members=members)
        excerpts = self.excerpts
        if excerpts is not None and excerpts.users_wD is not None:
            excerpts = replace(excerpts, users_wD=part(excerpts.users_wD))
        return replace(
            self,
            vectors=[tuple(part(vector) for vector in vectors) for vectors in self.vectors],
            shared_SD=part(self.shared_SD),
            positives_bD=part(self.positives_bD),
            excerpts=excerpts,
        )

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

    Attributes:
        rows_alike: whether a shared negative weighs the same in all rows of a batch.
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
        self.rows_alike = sources.rows_alike and self._group_index is None

    def losses(self, step: ScoredStep, users_bD: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of this process's rows.

        Args:
            step: what is scored.
            users_bD: float32 [b, D], divided by the temperature.

        Returns:
            Their weighted sum, a float32 scalar, and each of them without its weight, float32 [b].
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
            return step.weighted_sum(loss_b), loss_b.detach()
        log_sum_b = torch.cat(logits, dim=1).logsumexp(1)
        log_sum = step.weighted_sum(log_sum_b)
        if len(step.shared_S):
            if step.excerpts is None or step.excerpts.users_wD is None:
                log_sum, log_sum_b = self._with_shared(step, of_shared, log_sum_b, users_bD)
            else:
                log_sum_b = self._with_shared_of_excerpts(step, of_shared, log_sum_b, step.excerpts.users_wD)
                log_sum = step.weighted_sum(log_sum_b)
        return log_sum - step.weighted_sum(at.logits_b), (log_sum_b - at.logits_b).detach()

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
            if sources.may_look:
                return weights
            excluded_bS = positives_b[rows, None] == shared_S if excluded_wS is None else excluded_wS[of_row_b[rows]]
            return weights.masked_fill(excluded_bS, NEVER)

        excluded = excluded_wS = None
        of_row_b = positives_b if step.excerpts is None else step.excerpts.of_row_b
        if sources.may_look:
            excluded = self._excluded_pairs(step)
        elif step.excerpts is not None:
            excluded_wS = _known(step.excerpts, shared_S, may_look=False)
        return summed_log_partition(others_b, users_bD, step.shared_SD, log_weights, excluded, step.product, step.weights_b)

    def _with_shared_of_excerpts(self, step: ScoredStep, expected: Expected, others_b: Tensor, users_wD: Tensor) -> Tensor:
        """The same, float32 [b], where all rows of an excerpt share the scores of its whole user."""
        assert step.excerpts is not None
        counts = self._sources.log_counts(expected, step.positives_b[:1], step.shared_S).view(-1)
        weights_S = step.copies_S.log().clamp_min(NEVER) - counts
        logits_wS = (users_wD.to(step.product) @ step.shared_SD.to(step.product).T).float() + weights_S
        known_wS = _known(step.excerpts, step.shared_S, may_look=self._sources.may_look)
        log_sum_w = logits_wS.masked_fill(known_wS, NEVER).logsumexp(1)
        return torch.logaddexp(others_b, log_sum_w[step.excerpts.of_row_b])

    @staticmethod
    def _excluded_pairs(step: ScoredStep) -> tuple[Tensor, Tensor]:
        """Pairs (b, s) of a row and a shared negative that must not count for it, b ascending."""
        if step.excerpts is None:
            return matches(step.positives_b, step.shared_S)
        items_wE = step.excerpts.items_wE
        place, column = matches(items_wE.flatten(), step.shared_S)
        of_excerpt = torch.bincount(place // items_wE.shape[1], minlength=len(items_wE))
        first = of_excerpt.cumsum(0) - of_excerpt
        count_b = of_excerpt[step.excerpts.of_row_b]
        row = torch.repeat_interleave(count_b)
        within = torch.arange(len(row)) - (count_b.cumsum(0) - count_b)[row]
        return row, column[first[step.excerpts.of_row_b][row] + within]


def _known(excerpts: Excerpts, shared_S: Tensor, *, may_look: bool) -> Tensor:
    """bool [w, S], which shared negatives are items of each excerpt; without a number that the host waits for, if it must."""
    items_wE = excerpts.items_wE
    found_wS = torch.zeros(len(items_wE), len(shared_S), dtype=torch.bool, device=shared_S.device)
    if may_look:
        place, column = matches(items_wE.flatten(), shared_S)
        found_wS[place // items_wE.shape[1], column] = True
    else:
        for items_w in items_wE.unbind(1):
            found_wS |= items_w[:, None] == shared_S
    return found_wS
