"""The parts of a training step that may learn from it, and what they get to see.

A part keeps its own state in its `state_dict`. The objective tells every part when an epoch begins and ends, and gives it the
outcome of each training step. It does not know which parts use this.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from esans_core.sampler import SemanticNegativeSampler


class Part(nn.Module):
    """A part of a training step. It learns nothing unless it overrides these methods."""

    def begin_epoch(self) -> None:
        """An epoch begins."""

    def observe(self, outcome: "StepOutcome") -> None:
        """A step of training was taken."""

    def end_epoch(self) -> None:
        """An epoch is over."""


class StepOutcome:
    """The outcome of a training step, over the rows of all processes.

    Each piece is gathered when it is first asked for, so all processes must ask for the same pieces in the same order.

    Args:
        positives_B: int64 [B], positives of the whole batch.
        loss_b: float32 [b], losses of this process's rows.
        unit_loss: computes the same losses with every score at temperature 1, at the cost of another softmax.
        vectors_bD: float32 [b, D], embeddings of their positives.
        users_b: int64 [b], rows of their users; None if they are not known.
        gather: from this process's rows of a tensor to the rows of all processes.
    """

    def __init__(
        self,
        positives_B: Tensor,
        loss_b: Tensor,
        unit_loss: Callable[[], Tensor],
        vectors_bD: Tensor,
        users_b: Tensor | None,
        gather: Callable[[Tensor], Tensor],
    ) -> None:
        self.positives_B, self._unit_loss = positives_B, unit_loss
        self._loss_b, self._vectors_bD, self._users_b, self._gather = loss_b.detach(), vectors_bD.detach(), users_b, gather

    @cached_property
    def loss_B(self) -> Tensor:
        """float32 [B]."""
        return self._gather(self._loss_b)

    @cached_property
    def unit_loss_B(self) -> Tensor:
        """float32 [B], the losses with every score at temperature 1."""
        return self._gather(self._unit_loss())

    @cached_property
    def vectors_BD(self) -> Tensor:
        """float32 [B, D], embeddings of the positives."""
        return self._gather(self._vectors_bD)

    @cached_property
    def users_B(self) -> Tensor:
        """int64 [B], rows of the users.

        Raises:
            ValueError: the step did not get the rows of the users.
        """
        if self._users_b is None:
            raise ValueError("this method needs to know the users: give the objective BatchPart(user_rows=...)")
        return self._gather(self._users_b)


@dataclass(frozen=True)
class Excerpts:
    """The w excerpts of users' events that the b rows of a batch come from.

    Attributes:
        of_row_b: int64 [b], excerpt of each row, ascending.
        items_wE: int64 [w, E], items of each excerpt, the positives of its rows among them; -1 where there is none. None of
            them is a negative of these rows.
        users_wD: float32 [w, D], user of each whole excerpt, for logs without order. Negatives that the batch shares are then
            scored against it, once for all rows of the excerpt. None: they are scored for each row.
    """

    of_row_b: Tensor
    items_wE: Tensor
    users_wD: Tensor | None = None


@dataclass(frozen=True)
class Catalogue:
    """What parts are made from: `item_frequency`, `sampler`, `item_groups` and `num_users` of `RetrievalObjective`."""

    item_frequency: Tensor
    sampler: "SemanticNegativeSampler | None" = None
    item_groups: Tensor | None = None
    num_users: int = 0

    @property
    def num_items(self) -> int:
        """N."""
        return len(self.item_frequency)

    @property
    def device(self) -> torch.device:
        """Where draws are made."""
        return self.item_frequency.device
