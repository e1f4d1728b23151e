"""A training step before any negative is chosen: what a `StepLoss` (`esans_core.recipes`) works with.

Shape legend: B positives, b of them this process's rows (all B if there is one process), N items, D dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from esans_core.encoding import encode_once
from esans_core.world import World

_ENCODED = 1 << 16  # items that are encoded at a time when no gradient is wanted


@dataclass(frozen=True)
class UnscoredStep:
    """Users, positives, and the means to encode items.

    Attributes:
        users_bD: float32 [b, D], divided by the temperature.
        positives_b: int64 [b], item rows.
        encode_items: int64 [n] item rows -> float32 [n, D].
        num_items: N.
        counts: how many of the batch's rows each process has.
        generator: source of randomness, in the same state in all processes.
        world: the processes that share the batch.
        may_look: whether the host can read values of a tensor without waiting for a queue of work.
        weights_b: float32 [b], how much each of this process's rows counts in the mean loss; None if all count 1.
    """

    users_bD: Tensor
    positives_b: Tensor
    encode_items: Callable[[Tensor], Tensor]
    num_items: int
    counts: tuple[int, ...]
    generator: torch.Generator | None
    world: World
    may_look: bool
    weights_b: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """B."""
        return sum(self.counts)

    def of_batch(self, own: Tensor) -> Tensor:
        """[B, ...], the rows of the whole batch from this process's rows [b, ...], with their gradient."""
        return self.world.gather(own, self.counts)

    def encoded(self, *wanted: Tensor) -> list[Tensor]:
        """Embeddings of items with gradient, float32 [..., D] for each tensor int64 [...]; each item is encoded once."""
        return encode_once(wanted, self.encode_items, self.num_items, may_look=self.may_look)

    def catalogue(self) -> Tensor:
        """float32 [N, D], embeddings of all items with gradient. Each process encodes a part of them."""
        return self.world.gather(self.encode_items(self._part_of_catalogue), self.world.counts(self.num_items))

    @torch.no_grad()
    def catalogue_without_gradient(self) -> Tensor:
        """float32 [N, D], the same without gradient. A part is encoded at a time, so the tower needs little memory."""
        encoded = [self.encode_items(items) for items in self._part_of_catalogue.split(_ENCODED)]
        return self.world.gather(torch.cat(encoded), self.world.counts(self.num_items))

    @property
    def _part_of_catalogue(self) -> Tensor:
        mine = self.world.rows(self.num_items)
        return torch.arange(mine.start, mine.stop, device=self.positives_b.device)
