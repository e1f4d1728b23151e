"""Sources of negatives: each draws some for a batch, and knows how often each item is expected among them.

Negatives that the batch shares (in-batch, pool, and the draws of ESANS if the batch shares them) are one list of items. Those
drawn for each positive (by a proposal, or by ESANS, WWW 2025, arXiv 2502.16077) are rows (`esans_core.rows`).
`esans_core.negative_sources` puts the sources of a method together.

Shape legend: B positives, b some of them, S shared negatives, R negatives for each positive, n items of any shape, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from esans_core.negatives import NegativeConfig
from esans_core.parts import Catalogue, Part, StepOutcome
from esans_core.proposals import UniformProposal, make_proposal
from esans_core.rows import DrawnRows, Rows
from esans_core.sampler import SemanticNegativeSampler
from esans_core.semantic_rows import SemanticRows


@dataclass(frozen=True)
class Drawn:
    """The draws of one source.

    Attributes:
        shared_S: int64 [S], negatives of the whole batch.
        found_S: bool [S], False for a draw that found no item; None if all found one.
        rows: negatives of each positive.
    """

    shared_S: Tensor | None = None
    found_S: Tensor | None = None
    rows: Rows | None = None


class Source(Part):
    """One source of negatives. How often it is expected to draw an item may depend on the whole batch or on each positive.

    Attributes:
        rows_alike: whether each item is expected equally often for all positives of a batch.
    """

    rows_alike = True

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        """Draw for a batch; positives are int64 [B], item rows."""
        raise NotImplementedError

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor | None:
        """How often each item is expected for any positive of the batch, float32 of the items' shape; None for never."""
        return None

    def popularity_counts(self, positives_B: Tensor, items: Tensor) -> Tensor | float | None:
        """The part of `expected_counts` that comes from popularity alone. A partial correction leaves it in."""
        return self.expected_counts(positives_B, items)

    def expected_counts_of_each(self, positives_b: Tensor, items: Tensor) -> Tensor | None:
        """The counts that each positive adds to these, float32 [b, n] for items [n] or [b, n]; None for nothing."""
        return None


class InBatch(Source):
    """The other positives of the batch.

    Args:
        item_frequency: float [N], share of each item among training targets.
    """

    def __init__(self, item_frequency: Tensor) -> None:
        super().__init__()
        self.register_buffer("_item_frequency", item_frequency, persistent=False)

    _item_frequency: Tensor

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        """See `Source`."""
        return Drawn(positives_B)

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor:
        """See `Source`: exact to one part in the number of targets, and to the share of a user's targets in the batch."""
        return self._item_frequency[items] * (len(positives_B) - 1)


class Pool(Source):
    """Uniform negatives that the batch shares.

    Args:
        num_pool: how many negatives.
        catalogue: the catalogue that they are drawn from.
    """

    def __init__(self, num_pool: int, catalogue: Catalogue) -> None:
        super().__init__()
        self.num_pool, self._uniform = num_pool, UniformProposal(catalogue.num_items, catalogue.device)

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        """See `Source`."""
        return Drawn(self._uniform.draw((self.num_pool,), generator))

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor:
        """See `Source`."""
        return torch.full(items.shape, self.num_pool / self._uniform.num_items, device=items.device)


class WholeCatalogue(Source):
    """Every item once, in place of every other source."""

    def __init__(self, catalogue: Catalogue) -> None:
        super().__init__()
        self._num_items = catalogue.num_items

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        """See `Source`."""
        return Drawn(torch.arange(self._num_items, device=positives_B.device))

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor:
        """See `Source`."""
        return torch.ones(items.shape, device=items.device)


class PerPositive(Source):
    """Negatives that a proposal draws for each positive.

    Args:
        config: how many negatives, from which proposal, and how they are mixed.
        catalogue: what the proposal is made from.
    """

    def __init__(self, config: NegativeConfig, catalogue: Catalogue) -> None:
        super().__init__()
        self._config, self.proposal = config, make_proposal(config, catalogue)

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        """See `Source`."""
        items_BR = self.proposal.draw((len(positives_B), self._config.num_per_positive), generator)
        return Drawn(rows=DrawnRows(items_BR, self._config.num_hardest, self._config.mixing))

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor:
        """See `Source`."""
        return self.proposal.probability(items) * self._config.num_per_positive

    def observe(self, outcome: StepOutcome) -> None:
        """See `Part`."""
        if self.proposal.learns:
            self.proposal.observe(outcome.positives_B, outcome.loss_B)


class Semantic(Source):
    """Easy and hard draws of the semantic-aware sampler, for each positive or shared by the batch.

    Args:
        config: whether they are shared, and their virtual negatives.
        sampler: draws them.
    """

    def __init__(self, config: NegativeConfig, sampler: SemanticNegativeSampler) -> None:
        super().__init__()
        self._config, self._sampler, self.rows_alike = config, sampler, config.share_draws

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        """See `Source`."""
        draws = self._sampler.sample(positives_B, generator)
        rows = SemanticRows(self._config, draws)
        if not self._config.share_draws:
            return Drawn(rows=rows)
        return Drawn(draws.items.flatten(), (draws.items != positives_B[:, None]).flatten(), rows)

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor | None:
        """See `Source`."""
        return self._sampler.batch_expected_counts(positives_B, items) if self._config.share_draws else None

    def popularity_counts(self, positives_B: Tensor, items: Tensor) -> float:
        """See `Source`: the count that each item would have if the sampler drew all items with the same probability."""
        draws = self._sampler.num_draws * (len(positives_B) if self._config.share_draws else 1)
        return draws / self._sampler.index.num_items

    def expected_counts_of_each(self, positives_b: Tensor, items: Tensor) -> Tensor | None:
        """See `Source`."""
        return None if self._config.share_draws else self._sampler.expected_counts(positives_b, items)
