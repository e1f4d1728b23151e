"""Where a step's negatives come from: what is drawn for a batch, and how often each item is to be expected in it.

Negatives shared by the batch (in-batch, pool, the draws of ESANS where the batch shares them) are one list of items; those
drawn for each positive (by a proposal, or by ESANS, WWW 2025, arXiv 2502.16077) are rows. All are corrected by one expected
count (logQ): how often an item is expected among all draws for that positive, whichever source it came from.

Shape legend: B positives, S shared negatives, R drawn negatives per positive, n items of any shape, C clusters, M items per
cluster, H hard, N items.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esans_core.negatives import NegativeConfig
from esans_core.proposals import FairProposal, ItemProposal, PopularityProposal, UniformProposal
from esans_core.sampler import SemanticNegatives, SemanticNegativeSampler

_WORTH_MERGING = 4  # shared negatives are merged when there are at least this share, 1/4, of the catalogue's items


@dataclass(frozen=True)
class DrawnNegatives:
    """What one step drew; entries that equal their row's positive do not count.

    Attributes:
        shared_S: int64 [S], negatives of the whole batch (cached ones aside).
        copies_S: float32 [S], how often each of them counts; 0 for a draw that found nothing.
        drawn_BR: int64 [B, R], drawn by the proposal.
        semantic_BR: int64 [B, R'], drawn by the semantic-aware sampler: easy, then hard.
        semantic: the same draws by kind, or None.
    """

    shared_S: Tensor
    copies_S: Tensor
    drawn_BR: Tensor
    semantic_BR: Tensor
    semantic: SemanticNegatives | None


class NegativeSources(nn.Module):
    """Draws the negatives of a batch, and counts how often each item is expected among them.

    Args:
        config: which negatives.
        item_frequency: float [N], share of each item among training targets (`Loader.target_frequency`).
        sampler: the semantic-aware sampler; needed when `config.needs_sampler`.
        item_groups: int64 [N], group of each item; needed by the `fair` proposal.

    Raises:
        ValueError: something that the configuration needs is missing.
    """

    def __init__(
        self,
        config: NegativeConfig,
        item_frequency: Tensor,
        sampler: SemanticNegativeSampler | None = None,
        item_groups: Tensor | None = None,
    ) -> None:
        super().__init__()
        if config.needs_sampler and sampler is None:
            raise ValueError("a configuration with semantic negatives or a same-group weight needs a SemanticNegativeSampler")
        self.config, self.sampler = config, sampler
        self.register_buffer("item_frequency", item_frequency, persistent=False)
        self._uniform = UniformProposal(len(item_frequency), item_frequency.device)
        self.proposal = _proposal(config, item_frequency, item_groups, self._uniform)

    item_frequency: Tensor

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.item_frequency)

    @property
    def may_look(self) -> bool:
        """Whether the host can use what a tensor holds, such as a number of matches, without waiting for a queue of work."""
        return self.item_frequency.device.type == "cpu"

    def draw(self, positives: Tensor, generator: torch.Generator | None = None) -> DrawnNegatives:
        """Draw the negatives of a step, without scoring them.

        Args:
            positives: int64 [B], item rows.
            generator: source of randomness on their device.
        """
        config, nothing_BR = self.config, positives[:, None][:, :0]
        semantic = self.sampler.sample(positives, generator) if config.semantic and self.sampler else None
        semantic_BR = torch.cat([semantic.easy_BCM.flatten(1), semantic.hard_BH], dim=1) if semantic else nothing_BR
        shape = (len(positives), config.num_per_positive)
        drawn_BR = self.proposal.draw(shape, generator) if config.num_per_positive else nothing_BR
        return DrawnNegatives(*self._shared(positives, semantic_BR, generator), drawn_BR, semantic_BR, semantic)

    def _shared(self, positives: Tensor, semantic_BR: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Items that are negatives of the whole batch and are encoded in this step, and how often each counts."""
        config = self.config
        if config.all_items:
            return torch.arange(self.num_items, device=positives.device), torch.ones_like(self.item_frequency)
        shared = [positives] if config.in_batch else []
        if config.num_pool:
            shared.append(self._uniform.draw((config.num_pool,), generator))
        copies = [torch.ones_like(items, dtype=torch.float32) for items in shared]
        if config.share_draws:
            drawn_n, found_n = semantic_BR.flatten(), (semantic_BR != positives[:, None]).flatten()
            if self.may_look:
                drawn_n, found_n = drawn_n[found_n], found_n[found_n]
            shared.append(drawn_n)
            copies.append(found_n.float())
        return (torch.cat(shared), torch.cat(copies)) if shared else (positives[:0], positives[:0].float())

    def merged(self, negatives: DrawnNegatives) -> tuple[Tensor, Tensor]:
        """The different items among shared negatives, where many are the same, and how often each counts.

        Args:
            negatives: what `draw` gave.

        Returns:
            int64 [S'] and float32 [S'].
        """
        shared_S, copies_S, num_items = negatives.shared_S, negatives.copies_S, self.num_items
        if self.config.all_items:
            return shared_S, copies_S
        if self.may_look:
            if len(shared_S) * _WORTH_MERGING < num_items:
                return shared_S, copies_S
            items, counts = torch.unique(shared_S, return_counts=True)
            return items, counts.float()
        if len(shared_S) < num_items:
            return shared_S, copies_S
        copies_N = torch.zeros_like(self.item_frequency).index_add_(0, shared_S, copies_S)
        return torch.arange(num_items, device=shared_S.device), copies_N

    def common_counts(self, everyone: Tensor, items: Tensor, num_cached: int) -> tuple[Tensor, Tensor]:
        """What the draws that do not depend on which positive of the batch, [B], one looks at say of each item.

        Args:
            everyone: int64 [B], positives of the whole batch.
            items: int64, item rows, of any shape.
            num_cached: negatives of earlier steps that count too.

        Returns:
            How often it is expected among them, and the log of what logQ leaves in; float32 of the items' shape.
        """
        config, num_items = self.config, self.num_items
        counts = torch.full(items.shape, config.num_pool / num_items, device=items.device)
        if not config.log_q:
            return counts, counts
        if config.in_batch:
            counts = counts + self.item_frequency[items] * (len(everyone) - 1)
        if num_cached:
            counts = counts + self.item_frequency[items] * num_cached
        if config.num_per_positive:
            counts = counts + self.proposal.probability(items) * config.num_per_positive
        semantic = self.sampler if config.semantic else None
        # Less than the whole correction leaves popularity in: what counts would be if the sampler drew from all items alike.
        draws = semantic.num_draws * (len(everyone) if config.share_draws else 1) if semantic else 0
        left = _log_of(counts + draws / num_items).mul_(1 - config.log_q)
        if semantic is not None and config.share_draws:
            counts = counts + semantic.batch_expected_counts(everyone, items)
        return counts, left

    def log_counts(self, common: tuple[Tensor, Tensor], positives: Tensor, items: Tensor) -> Tensor:
        """What logQ takes off the logit of each item, [n] or [B, R], for each positive.

        The log of how often the item is expected among all draws for the positive, less what is left in.

        Args:
            common: what `common_counts` gave for these items.
            positives: int64 [B], item rows.
            items: int64 [n], or [B, R], item rows.

        Returns:
            float32 that broadcasts to [B, n] or [B, R].
        """
        counts, left = common
        if not self.config.log_q:
            return counts.new_zeros((1, 1))
        if self.config.semantic and not self.config.share_draws and self.sampler is not None:
            counts = self.sampler.expected_counts(positives, items).add_(counts)
        return _log_of(counts).sub_(left)


def _proposal(config: NegativeConfig, frequency: Tensor, groups: Tensor | None, uniform: UniformProposal) -> ItemProposal:
    match config.proposal:
        case "popularity":
            return PopularityProposal(frequency, config.popularity_exponent)
        case "fair":
            if groups is None:
                raise ValueError("the fair proposal needs item_groups")
            return FairProposal(groups)
    return uniform


def _log_of(counts: Tensor) -> Tensor:
    """A new tensor with the log of expected counts, of which some may be 0."""
    return counts.clamp_min(torch.finfo(torch.float32).tiny).log_()
