"""Distributions from which negatives are drawn for each positive, and how often each item is drawn."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from esans_core.negatives import NegativeConfig
from esans_core.parts import Catalogue

_LEAST_SHARE = 1e-3  # of an even share, so that every group of items is still drawn


class ItemProposal(nn.Module):
    """A distribution over the catalogue. If it adapts to losses, it sets `learns`."""

    learns = False

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """Item rows, int64 of `shape`, with replacement."""
        raise NotImplementedError

    def probability(self, items: Tensor) -> Tensor:
        """Chance of each item in one draw, float32 of the items' shape."""
        raise NotImplementedError

    def observe(self, positives: Tensor, loss_B: Tensor) -> None:
        """Learn from the losses of a step, float32 [B], of its positives, int64 [B]. Called only if the proposal learns."""


class UniformProposal(ItemProposal):
    """Every item with the same probability.

    Args:
        num_items: N.
        device: where draws are made.
    """

    def __init__(self, num_items: int, device: torch.device) -> None:
        super().__init__()
        self.num_items, self.device = num_items, device

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """See `ItemProposal`."""
        return torch.randint(self.num_items, shape, generator=generator, device=self.device)

    def probability(self, items: Tensor) -> Tensor:
        """See `ItemProposal`."""
        return torch.full(items.shape, 1 / self.num_items, device=items.device)


class PopularityProposal(ItemProposal):
    """Items by frequency^exponent (PNS; the exponent 0.75 is that of word2vec, Mikolov et al. 2013, arXiv 1310.4546).

    Args:
        frequency: float [N], share of each item among training targets; an item that is never a target is never drawn.
        exponent: at least 0.
    """

    def __init__(self, frequency: Tensor, exponent: float) -> None:
        super().__init__()
        weight = torch.where(frequency > 0, frequency.double() ** exponent, 0.0)
        probability = weight / weight.sum()
        self.register_buffer("_probability", probability.float(), persistent=False)
        self.register_buffer("_cumulative", probability.cumsum(0), persistent=False)

    _probability: Tensor
    _cumulative: Tensor

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """See `ItemProposal`."""
        u = torch.rand(shape, generator=generator, device=self._cumulative.device, dtype=torch.float64)
        return torch.searchsorted(self._cumulative, u * self._cumulative[-1], right=True).clamp_(max=len(self._cumulative) - 1)

    def probability(self, items: Tensor) -> Tensor:
        """See `ItemProposal`."""
        return self._probability[items]


class FairProposal(ItemProposal):
    """A group of items by an adaptive share, then an item of the group uniformly (after FairNeg, WWW 2023, arXiv 2302.08266).

    After each step, with L_z the mean loss of the positives of group z and m the mean of L_z over the Z groups seen in it:

        v_z <- momentum v_z + step_size / Z (L_z - m),    p_z <- p_z - v_z, held above a small floor and summing to 1.

    So a group whose positives are fitted worse than the average is drawn less often as a negative. Shares start at the groups'
    shares of the items. In the paper, L_z is the binary cross-entropy of positives; here it is the softmax loss. The paper's
    second part, which mixes this distribution with one that favours high scores, is left out (`docs/methods.md`).

    Args:
        groups: int64 [N], group of each item; negative values form a group of their own.
        step_size: how fast shares follow the losses, relative to an even share 1 / Z.
        momentum: share of the last change that is kept, 0 to 1.
    """

    def __init__(self, groups: Tensor, *, step_size: float = 0.1, momentum: float = 0.5) -> None:
        super().__init__()
        _, group_of_item, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
        self.step_size, self.momentum = step_size, momentum
        self.register_buffer("_group_of_item", group_of_item, persistent=False)
        self.register_buffer("_order", torch.argsort(group_of_item, stable=True), persistent=False)
        self.register_buffer("_sizes", sizes, persistent=False)
        self.register_buffer("share", sizes.double() / sizes.sum())
        self.register_buffer("velocity", torch.zeros_like(self.share))

    learns = True
    _group_of_item: Tensor
    _order: Tensor
    _sizes: Tensor
    share: Tensor
    velocity: Tensor

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        """See `ItemProposal`."""
        u = torch.rand((2, *shape), generator=generator, device=self.share.device, dtype=torch.float64)
        group = torch.searchsorted(self.share.cumsum(0), u[0], right=True).clamp_(max=len(self.share) - 1)
        first = self._sizes.cumsum(0) - self._sizes
        return self._order[first[group] + (u[1] * self._sizes[group]).long()]

    def probability(self, items: Tensor) -> Tensor:
        """See `ItemProposal`."""
        return (self.share / self._sizes).float()[self._group_of_item[items]]

    @torch.no_grad()
    def observe(self, positives: Tensor, loss_B: Tensor) -> None:
        """Move the shares by the mean loss of each group's positives. A group without positives moves only by its momentum.

        Args:
            positives: int64 [B].
            loss_B: float [B], loss of each positive.
        """
        group_B = self._group_of_item[positives]
        count = torch.zeros_like(self.share).index_add_(0, group_B, torch.ones_like(loss_B, dtype=self.share.dtype))
        total = torch.zeros_like(self.share).index_add_(0, group_B, loss_B.to(self.share.dtype))
        seen = count > 0
        mean = total / count.clamp_min(1)
        excess = torch.where(seen, mean - mean.sum() / seen.sum(), 0.0)
        even = 1 / len(self.share)
        self.velocity.mul_(self.momentum).add_(excess, alpha=self.step_size * even)
        self.share.sub_(self.velocity).clamp_(min=_LEAST_SHARE * even)
        self.share.div_(self.share.sum())


def _fair(config: NegativeConfig, catalogue: Catalogue) -> ItemProposal:
    if catalogue.item_groups is None:
        raise ValueError("the fair proposal needs item_groups")
    return FairProposal(catalogue.item_groups)


_PROPOSALS: dict[str, Callable[[NegativeConfig, Catalogue], ItemProposal]] = {
    "uniform": lambda config, catalogue: UniformProposal(catalogue.num_items, catalogue.device),
    "popularity": lambda config, catalogue: PopularityProposal(catalogue.item_frequency, config.popularity_exponent),
    "fair": _fair,
}


def make_proposal(config: NegativeConfig, catalogue: Catalogue) -> ItemProposal:
    """The proposal of a configuration.

    Raises:
        ValueError: there is no proposal of this name, or something that it needs is missing.
    """
    made = _PROPOSALS.get(config.proposal) if isinstance(config.proposal, str) else config.proposal
    if made is None:
        raise ValueError(f"unknown proposal {config.proposal!r}: choose {', '.join(_PROPOSALS)}")
    return made(config, catalogue)
