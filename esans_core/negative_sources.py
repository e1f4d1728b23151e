"""All sources of a method together: what a batch draws from them, and what the logQ correction subtracts from each logit.

All negatives are corrected by one expected count: how often an item is expected among all draws for that positive, from any
source.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esans_core.negatives import NegativeConfig
from esans_core.parts import Catalogue
from esans_core.rows import Rows
from esans_core.sources import InBatch, PerPositive, Pool, Semantic, Source, WholeCatalogue

_WORTH_MERGING = 4  # shared negatives are merged if they are at least 1/4 as many as the catalogue's items


@dataclass(frozen=True)
class DrawnNegatives:
    """What one step drew; entries that equal their row's positive do not count.

    Attributes:
        shared_S: int64 [S], negatives of the whole batch (without cached ones).
        copies_S: float32 [S], how often each of them counts; 0 for a draw that found nothing.
        rows: negatives of each positive, by source.
    """

    shared_S: Tensor
    copies_S: Tensor
    rows: tuple[Rows, ...]

    def rows_BR(self, positives_B: Tensor) -> Tensor:
        """int64 [B, R], the negatives that all sources together drew for each of the positives, int64 [B]."""
        return torch.cat([positives_B[:, None][:, :0], *(rows.items_BR for rows in self.rows)], dim=1)


@dataclass(frozen=True)
class Expected:
    """Expected counts of some items among the draws that are alike for all positives of a batch.

    Attributes:
        counts: float32, how often each item is expected among these draws.
        left: float32, the part of the log count that a partial correction leaves in.
    """

    counts: Tensor
    left: Tensor

    def split(self, items: Sequence[Tensor]) -> "list[Expected]":
        """Split the result for items that were put one after the other into the result for each of these tensors."""
        sizes = [each.numel() for each in items]
        parts = zip(items, self.counts.split(sizes), self.left.split(sizes), strict=True)
        return [Expected(counts.view(each.shape), left.view(each.shape)) for each, counts, left in parts]


class NegativeSources(nn.Module):
    """The sources of a method.

    Args:
        config: says which sources there are.
        catalogue: what the sources are made from.

    Raises:
        ValueError: something that the configuration needs is missing.
    """

    def __init__(self, config: NegativeConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_sources(config, catalogue))
        self.num_items, self.log_q = catalogue.num_items, config.log_q
        self._device = catalogue.device

    @property
    def may_look(self) -> bool:
        """Whether the host can read values of a tensor, such as a number of matches, without waiting for a queue of work."""
        return self._device.type == "cpu"

    @property
    def rows_alike(self) -> bool:
        """Whether each item is expected equally often for all positives of a batch."""
        return all(source.rows_alike for source in self._all)

    def draw(self, positives_B: Tensor, generator: torch.Generator | None = None) -> DrawnNegatives:
        """Draw the negatives of a step, without scoring them.

        Args:
            positives_B: int64 [B], item rows.
            generator: source of randomness on their device.
        """
        # From last to first, because the random numbers of a seed have always been used in this order.
        drawn = [source.draw(positives_B, generator) for source in reversed(self._all)][::-1]
        shared, copies = [positives_B[:0]], [positives_B[:0].float()]
        for each in drawn:
            if each.shared_S is not None:
                found_S = torch.ones_like(each.shared_S, dtype=torch.bool) if each.found_S is None else each.found_S
                keep = slice(None) if each.found_S is None or not self.may_look else found_S
                shared.append(each.shared_S[keep])
                copies.append(found_S[keep].float())
        return DrawnNegatives(torch.cat(shared), torch.cat(copies), tuple(each.rows for each in drawn if each.rows is not None))

    def merged(self, negatives: DrawnNegatives) -> tuple[Tensor, Tensor]:
        """The distinct items among shared negatives, if many are the same, and how often each counts.

        Args:
            negatives: the result of `draw`.

        Returns:
            int64 [S'] and float32 [S'].
        """
        shared_S, copies_S = negatives.shared_S, negatives.copies_S
        if self.may_look:
            if len(shared_S) * _WORTH_MERGING < self.num_items:
                return shared_S, copies_S
            items, counts = torch.unique(shared_S, return_counts=True)
            return items, counts.float()
        if len(shared_S) < self.num_items:
            return shared_S, copies_S
        copies_N = torch.zeros(self.num_items, device=shared_S.device).index_add_(0, shared_S, copies_S)
        return torch.arange(self.num_items, device=shared_S.device), copies_N

    def expected(self, positives_B: Tensor, items: Tensor, more: Sequence[Source] = ()) -> Expected:
        """How often all sources expect items, int64 [n], for any positive of a batch, int64 [B].

        Args:
            positives_B: positives of the whole batch.
            items: item rows.
            more: sources that count too.
        """
        counts = torch.zeros(items.shape, device=items.device)
        if not self.log_q:
            return Expected(counts, counts)
        popularity: Tensor = counts
        for source in (*self._all, *more):
            expected, popular = source.expected_counts(positives_B, items), source.popularity_counts(positives_B, items)
            counts = counts if expected is None else counts + expected
            popularity = popularity if popular is None else popularity + popular
        return Expected(counts, _log_of(popularity).mul_(1 - self.log_q))

    def log_counts(self, expected: Expected, positives_b: Tensor, items: Tensor) -> Tensor:
        """What the logQ correction subtracts from the logit of each item, [n] or [b, R], for each positive.

        It is the log of how often the item is expected among all draws for the positive, less the part that is left in.

        Args:
            expected: the result of `expected` for these items.
            positives_b: int64 [b], item rows.
            items: int64 [n], or [b, R], item rows.

        Returns:
            float32 that broadcasts to [b, n] or [b, R].
        """
        counts = expected.counts
        if not self.log_q:
            return counts.new_zeros((1, 1))
        for source in self._all:
            own = source.expected_counts_of_each(positives_b, items)
            counts = counts if own is None else own.add_(counts)
        return _log_of(counts).sub_(expected.left)

    @property
    def _all(self) -> list[Source]:
        return list(self.parts)  # type: ignore[arg-type]


def _sources(config: NegativeConfig, catalogue: Catalogue) -> list[Source]:
    if config.needs_sampler and catalogue.sampler is None:
        raise ValueError("a configuration with semantic negatives or a same-group weight needs a SemanticNegativeSampler")
    if config.all_items:
        return [WholeCatalogue(catalogue)]
    found: list[Source] = []
    if config.in_batch:
        found.append(InBatch(catalogue.item_frequency))
    if config.num_pool:
        found.append(Pool(config.num_pool, catalogue))
    if config.num_per_positive:
        found.append(PerPositive(config, catalogue))
    if config.semantic and catalogue.sampler is not None:
        found.append(Semantic(config, catalogue.sampler))
    return found + [make(config, catalogue) for make in config.more_sources]


def _log_of(counts: Tensor) -> Tensor:
    """A new tensor with the log of expected counts, some of which may be 0."""
    return counts.clamp_min(torch.finfo(torch.float32).tiny).log_()
