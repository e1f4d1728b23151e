"""Negatives drawn for each positive: which items are encoded for them, and which logits they give.

Shape legend: B positives of the batch, b this process's rows of it, R negatives for each, D dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from esans_core.recipes import RowMixing
from esans_core.shared_softmax import NEVER


@dataclass(frozen=True)
class Positives:
    """This process's positives, next to which negatives are scored.

    Attributes:
        users_bD: float32 [b, D], divided by the temperature.
        items_b: int64 [b].
        vectors_bD: float32 [b, D].
        logits_b: float32 [b].
    """

    users_bD: Tensor
    items_b: Tensor
    vectors_bD: Tensor
    logits_b: Tensor


class Rows(Protocol):
    """Negatives drawn for each positive. Entries that equal their row's positive do not count."""

    @property
    def items_BR(self) -> Tensor:
        """int64 [B, R]."""
        ...

    @property
    def wanted(self) -> tuple[Tensor, ...]:
        """The same items in the form in which they are encoded, int64 [B, ...] each."""
        ...

    def mix(self, generator: torch.Generator | None) -> "Rows":
        """The rows with the random numbers for their mixing, drawn for the whole batch so that all processes draw the same."""
        ...

    def of(self, mine: slice) -> "Rows":
        """The rows of one process."""
        ...

    def logits(self, at: Positives, vectors: Sequence[Tensor], log_counts: Tensor) -> list[Tensor]:
        """Corrected logits, float32 [b, n] each, `NEVER` where they must not count.

        Args:
            at: the positives.
            vectors: embeddings of `wanted`, float32 [b, ..., D] each.
            log_counts: what the logQ correction subtracts from each logit, float32 that broadcasts to [b, R].
        """
        ...


@dataclass(frozen=True)
class DrawnRows:
    """Draws of a proposal. They are mixed if the method mixes, and only the hardest count if it asks for that. A `Rows`.

    Attributes:
        items_BR: int64 [B, R].
        num_hardest: how many count, those with the highest scores; 0 for all.
        mixing: turns them into others; None leaves them as they are.
        drawn_BR: the random numbers of the mixing.
    """

    items_BR: Tensor
    num_hardest: int = 0
    mixing: RowMixing | None = None
    drawn_BR: Tensor | None = None

    @property
    def wanted(self) -> tuple[Tensor, ...]:
        """See `Rows`."""
        return (self.items_BR,)

    def mix(self, generator: torch.Generator | None) -> "DrawnRows":
        """See `Rows`."""
        return self if self.mixing is None else replace(self, drawn_BR=self.mixing.draw(self.items_BR, generator))

    def of(self, mine: slice) -> "DrawnRows":
        """See `Rows`."""
        drawn_BR = None if self.drawn_BR is None else self.drawn_BR[mine]
        return replace(self, items_BR=self.items_BR[mine], drawn_BR=drawn_BR)

    def logits(self, at: Positives, vectors: Sequence[Tensor], log_counts: Tensor) -> list[Tensor]:
        """See `Rows`."""
        logits = torch.einsum("bd,brd->br", at.users_bD, vectors[0])
        if self.mixing is not None and self.drawn_BR is not None:
            logits = self.mixing.logits(at.logits_b, logits, self.drawn_BR)
        logits = (logits - log_counts).masked_fill(self.items_BR == at.items_b[:, None], NEVER)
        keep = self.num_hardest
        return [logits.topk(keep, dim=1, sorted=False).values if 0 < keep < logits.shape[1] else logits]
