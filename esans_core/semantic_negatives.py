"""The result of one call to the semantic-aware sampler: items, which of them are valid, and how often each is expected.

Shape legend: B positives, C = m_c easy clusters, M = m_o items in each, H hard negatives, R = C M + H, V virtual negatives.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class NegativeSet:
    """All that a loss must know about n negatives for each of B positives, apart from their logits.

    Attributes:
        log_expected_counts: float32 [B, n], log of how often each is expected among the draws; 0 where it is not valid.
        valid: bool [B, n], False for entries that must not count.
    """

    log_expected_counts: Tensor
    valid: Tensor


@dataclass(frozen=True)
class SemanticNegatives:
    """Draws for B positives, R = C M + H for each: first the easy ones, cluster after cluster, then the hard ones.

    Score `items`, and give `sampled_softmax_loss` these logits with `valid` and `log_expected_counts`. Where `valid` is False,
    the item is the positive itself and must not count.

    Attributes:
        items: int64 [B, R].
        easy_BCM: int64 [B, m_c, m_o], the easy part of `items`: items of other primary clusters; the m_o items of one cluster
            are distinct.
        hard_BH: int64 [B, num_hard], the hard part of `items`: items of the same primary and another secondary cluster.
        easy_valid_B: bool [B], whether the positive has a cluster and another large enough cluster exists.
        hard_valid_B: bool [B], whether the positive's primary cluster has a second group.
        easy_counts_BC: float32 [B, m_c], expected count of each item of an easy cluster that was drawn.
        hard_counts_B: float32 [B], expected count of each hard item.
    """

    items: Tensor
    easy_BCM: Tensor
    hard_BH: Tensor
    easy_valid_B: Tensor
    hard_valid_B: Tensor
    easy_counts_BC: Tensor
    hard_counts_B: Tensor

    @property
    def valid(self) -> Tensor:
        """bool [B, R], which draws found an item."""
        easy_BR, hard_BR = self.easy_valid_B[:, None], self.hard_valid_B[:, None]
        num_easy = self.easy_BCM.shape[1] * self.easy_BCM.shape[2]
        return torch.cat([easy_BR.expand(-1, num_easy), hard_BR.expand(-1, self.hard_BH.shape[1])], dim=1)

    @property
    def log_expected_counts(self) -> Tensor:
        """float32 [B, R], log of how often each item is expected among the draws for its positive; 0 where it is not valid."""
        easy_BC = self.easy_counts_BC.masked_fill(~self.easy_valid_B[:, None], 1.0).log()
        hard_B = self.hard_counts_B.masked_fill(~self.hard_valid_B, 1.0).log()
        easy_BR = easy_BC.repeat_interleave(self.easy_BCM.shape[2], dim=1)
        return torch.cat([easy_BR, hard_B[:, None].expand(-1, self.hard_BH.shape[1])], dim=1)

    def easy(self, values: Tensor) -> Tensor:
        """From values of all draws, [B, R, ...], such as logits, those of the easy draws, [B, m_c, m_o, ...]."""
        _, clusters, items = self.easy_BCM.shape
        return values[:, : clusters * items].unflatten(1, (clusters, items))

    def hard(self, values: Tensor) -> Tensor:
        """From values of all draws, [B, R, ...], those of the hard draws, [B, num_hard, ...]."""
        return values[:, self.items.shape[1] - self.hard_BH.shape[1] :]

    def with_virtual(self, weights: Tensor | None = None, lambdas: Tensor | None = None) -> NegativeSet:
        """The draws, followed by virtual negatives: first the simple ones, cluster after cluster, then the hard ones.

        The log count of a virtual negative combines log counts in the same way as its logit combines logits. So it is corrected
        like the items that it is made of. The positive is not corrected: its log count is 0.

        Args:
            weights: float [B, m_c, V, m_o], from `simple_weights`; None if there are no simple virtual negatives.
            lambdas: float [B, num_hard], from `hard_lambdas`; None if there are no hard ones.

        Returns:
            For R draws, m_c V simple and num_hard hard virtual negatives.
        """
        logs, valid = [self.log_expected_counts], [self.valid]
        if weights is not None:
            logs.append((weights @ self.easy(logs[0])[..., None]).squeeze(-1).flatten(1))
            valid.append(self.easy_valid_B[:, None].expand(-1, logs[-1].shape[1]))
        if lambdas is not None:
            logs.append((1 - lambdas) * self.hard(logs[0]))
            valid.append(self.hard_valid_B[:, None].expand(-1, logs[-1].shape[1]))
        return NegativeSet(torch.cat(logs, dim=1), torch.cat(valid, dim=1))

    def rows(self, rows: slice) -> "SemanticNegatives":
        """The draws for some of the positives."""
        return SemanticNegatives(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})
