"""Cuts users' training runs into excerpts, so that every training event is the target of exactly one."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Excerpts:
    """W excerpts: runs of training events of one user each, some of which are targets. Positions count in `Sequences.items`.

    Attributes:
        users: int64 [W], row of each excerpt's user.
        start: int64 [W], position of its first event.
        first_target: int64 [W], position of its first target; the events before it are context only.
        end: int64 [W], position after its last event.
    """

    users: Tensor
    start: Tensor
    first_target: Tensor
    end: Tensor

    def take(self, rows: Tensor) -> "Excerpts":
        """Some of the excerpts, by their rows, int64."""
        return Excerpts(self.users[rows], self.start[rows], self.first_target[rows], self.end[rows])


def excerpt_stride(max_history: int) -> int:
    """Targets of every excerpt of a user but the first, so that each has between L/2 and L events before it."""
    return max(1, max_history // 2)


def excerpt_counts(num_train: Tensor, max_history: int) -> Tensor:
    """How many excerpts `Sequences.training_excerpts` makes of runs of so many training events, int64 of the same shape."""
    stride = excerpt_stride(max_history)
    later = (num_train - max_history - 1).clamp_min(0)
    return (num_train > 1).long() + (later + stride - 1) // stride


def target_counts(num_train: Tensor, *, ordered: bool = True) -> Tensor:
    """How many targets runs of so many training events have, int64 of the same shape."""
    return torch.where(num_train > 1, num_train - (1 if ordered else 0), 0)


def numbered(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Owners and numbers of `counts` things for each owner: int64 [sum] each, the number starting at 0 for every owner."""
    owner = torch.repeat_interleave(torch.arange(len(counts)), counts)
    return owner, torch.arange(len(owner)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
