"""Behaviour sequences in flat form; batches of histories and targets are cut from them without a Python loop."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """The events of U users, each user's oldest first; training events, then validation, then hold-out.

    Attributes:
        items: int64 [E], item rows of all users, user after user.
        offsets: int64 [U + 1], run of each user in `items`.
        num_train: int64 [U], training events of each user.
        num_validation: int64 [U], validation events of each user; the events after them are the hold-out.
    """

    items: Tensor
    offsets: Tensor
    num_train: Tensor
    num_validation: Tensor

    def __post_init__(self) -> None:
        lengths = self.offsets.diff()
        if bool((self.num_train + self.num_validation > lengths).any()):
            raise ValueError("a user's num_train + num_validation exceeds the length of the sequence")

    @classmethod
    def past(cls, items: Tensor, offsets: Tensor) -> "Sequences":
        """Users whose events are all past, as in serving: there is no validation or hold-out."""
        lengths = offsets.diff()
        return cls(items, offsets, num_train=lengths, num_validation=torch.zeros_like(lengths))

    @property
    def num_users(self) -> int:
        """U."""
        return len(self.num_train)

    @property
    def num_blocks(self) -> int:
        """A log in memory is one block (`esans_core.loader.EventLog`)."""
        return 1

    def users(self, block: int) -> range:
        """Rows of the block's users."""
        return range(self.num_users)

    def num_train_events(self, block: int) -> Tensor:
        """int64 [U], training events of each user."""
        return self.num_train

    def read(self, block: int) -> "Sequences":
        """The block: all of it."""
        return self

    @classmethod
    def cat(cls, parts: "Sequence[Sequences]") -> "Sequences":
        """The users of several parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        lengths = torch.cat([part.offsets.diff() for part in parts])
        return cls(
            torch.cat([part.items for part in parts]),
            torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
            torch.cat([part.num_train for part in parts]),
            torch.cat([part.num_validation for part in parts]),
        )

    def select(self, users: Tensor) -> "Sequences":
        """The sequences of some users only: `users`, int64 [U'], are their rows, which become 0 to U' - 1."""
        items = self._pairs(users, self.offsets[:-1], self.offsets[1:])[1]
        lengths = self.offsets.diff()[users]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return Sequences(items, offsets, self.num_train[users], self.num_validation[users])

    def training_targets(self) -> tuple[Tensor, Tensor]:
        """Every training event that has a history.

        Returns:
            users int64 [T] and positions int64 [T] in `items`; the history of a target is the user's run before it.
        """
        users = torch.repeat_interleave(torch.arange(self.num_users), self.num_train)
        first = self.offsets[:-1][users]
        rank = torch.arange(len(users)) - torch.repeat_interleave(self.num_train.cumsum(0) - self.num_train, self.num_train)
        keep = rank >= 1
        return users[keep], (first + rank)[keep]

    def histories(self, users: Tensor, ends: Tensor, max_history: int) -> Tensor:
        """int64 [B, max_history]: each user's events before position `ends`, aligned to the right, -1 where there is none."""
        columns = ends[:, None] + torch.arange(-max_history, 0)
        inside = columns >= self.offsets[users][:, None]
        return torch.where(inside, self.items[columns.clamp_min(0)], -1)

    def evaluation_users(self, split: str) -> Tensor:
        """int64: users with a training history and at least one event in `split` (validation or holdout)."""
        start, end = self._bounds(split)
        return torch.nonzero((end > start) & (self.num_train > 0)).flatten()

    def known_ends(self, users: Tensor, split: str) -> Tensor:
        """int64 [B]: position where each user's known past ends and `split` begins."""
        return self._bounds(split)[0][users]

    def relevant(self, users: Tensor, split: str) -> tuple[Tensor, Tensor]:
        """The events of `split` as pairs: row int64 [P] in `users`, item int64 [P]."""
        return self._pairs(users, *self._bounds(split))

    def seen(self, users: Tensor, split: str) -> tuple[Tensor, Tensor]:
        """All events before `split` as pairs: row int64 [P] in `users`, item int64 [P]."""
        return self._pairs(users, self.offsets[:-1], self._bounds(split)[0])

    def _bounds(self, split: str) -> tuple[Tensor, Tensor]:
        start = self.offsets[:-1]
        match split:
            case "validation":
                return start + self.num_train, start + self.num_train + self.num_validation
            case "holdout":
                return start + self.num_train + self.num_validation, self.offsets[1:]
        raise ValueError(f"split must be 'validation' or 'holdout', got {split!r}")

    def _pairs(self, users: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        start, count = start[users], (end - start)[users]
        row = torch.repeat_interleave(torch.arange(len(users)), count)
        within = torch.arange(len(row)) - torch.repeat_interleave(count.cumsum(0) - count, count)
        return row, self.items[start[row] + within]


def by_length(history_BL: Tensor) -> tuple[list[Tensor], Tensor]:
    """Histories in groups of like length, so that a short one is not padded to the longest one's width.

    Args:
        history_BL: int64 [B, L], aligned to the right, -1 where there is none.

    Returns:
        Groups, shortest first, each int64 [b, l]: l is at most L and, if it is above 4, less than twice the length of any
        history in the group. And place, int64 [B], the row of each history when the groups are put together.
    """
    length = (history_BL >= 0).sum(1)
    order = length.argsort(stable=True)
    width = torch.exp2(length[order].clamp_min(4).log2().ceil()).long().clamp(max=history_BL.shape[1])
    widths, counts = torch.unique_consecutive(width, return_counts=True)
    groups = history_BL[order].split(counts.tolist())
    return [group[:, -width:] for group, width in zip(groups, widths.tolist(), strict=True)], order.argsort()
