"""Behaviour sequences in flat form; batches of histories and targets are cut from them without a Python loop."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from esans_core.excerpts import Excerpts, excerpt_counts, excerpt_stride, numbered


@dataclass(frozen=True)
class Sequences:
    """The events of U users, each user's oldest first; training events, then validation, then hold-out.

    Attributes:
        items: int64 [E], item rows of all users, user after user.
        offsets: int64 [U + 1], run of each user in `items`.
        num_train: int64 [U], training events of each user.
        num_validation: int64 [U], validation events of each user; the events after them are the hold-out.
        weights: float32 [E], how much each event counts as a target; one of weight 0 is history only. None: all count 1.
        unwanted: pairs (user int64 [P], item int64 [P]), users ascending: items that must never be retrieved for a user.
        again: whether items that a user has met may be retrieved, as where people come back to the same things.
        features: float32 [U, G], what is known of each user beside events, NaN where something is missing. None: nothing is.
    """

    items: Tensor
    offsets: Tensor
    num_train: Tensor
    num_validation: Tensor
    weights: Tensor | None = None
    unwanted: tuple[Tensor, Tensor] | None = None
    again: bool = False
    features: Tensor | None = None

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

    def num_history_only(self, block: int) -> Tensor | None:
        """int64 [U], training events of each user that are never targets; None if all may be."""
        if self.weights is None:
            return None
        user, rank = self.places()
        only = (rank < self.num_train[user]) & (self.weights <= 0)
        return torch.bincount(user[only], minlength=self.num_users)

    def read(self, block: int) -> "Sequences":
        """The block: all of it."""
        return self

    @classmethod
    def cat(cls, parts: "Sequence[Sequences]") -> "Sequences":
        """The users of several parts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        lengths = torch.cat([part.offsets.diff() for part in parts])
        first = [0, *accumulate(part.num_users for part in parts)]
        pairs = [
            (part.unwanted[0] + start, part.unwanted[1])
            for part, start in zip(parts, first, strict=False)
            if part.unwanted is not None
        ]
        return cls(
            torch.cat([part.items for part in parts]),
            torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]),
            torch.cat([part.num_train for part in parts]),
            torch.cat([part.num_validation for part in parts]),
            None if parts[0].weights is None else torch.cat([part.target_weights() for part in parts]),
            (torch.cat([row for row, _ in pairs]), torch.cat([item for _, item in pairs])) if pairs else None,
            parts[0].again,
            None if parts[0].features is None else torch.cat([part.features for part in parts if part.features is not None]),
        )

    def select(self, users: Tensor) -> "Sequences":
        """The sequences of some users only: `users`, int64 [U'], are their rows, which become 0 to U' - 1."""
        position = self._positions(users, self.offsets[:-1], self.offsets[1:])[1]
        lengths = self.offsets.diff()[users]
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        return replace(
            self,
            items=self.items[position],
            offsets=offsets,
            num_train=self.num_train[users],
            num_validation=self.num_validation[users],
            weights=None if self.weights is None else self.weights[position],
            unwanted=self._unwanted_of(users),
            features=None if self.features is None else self.features[users],
        )

    def target_weights(self) -> Tensor:
        """float32 [E], the weight of each event."""
        return torch.ones(len(self.items)) if self.weights is None else self.weights

    def training_excerpts(self, max_history: int, *, ordered: bool = True) -> Excerpts:
        """Cut each user's training run into excerpts, so that every training event is the target of exactly one.

        Args:
            max_history: L, most events that a user tower reads.
            ordered: whether the events before a target are its context. If not, all others of the excerpt are, and then the
                first event is a target too.
        """
        users, number = numbered(excerpt_counts(self.num_train, max_history))
        first = 1 if ordered else 0
        count, stride = self.num_train[users], excerpt_stride(max_history)
        # The first excerpt has up to L + 1 events. Each later one has `stride` targets more, and the events before them.
        end = torch.minimum(max_history + 1 + number * stride, count)
        start = (end - max_history - 1).clamp_min(0)
        begin = torch.where(number > 0, max_history + 1 + (number - 1) * stride, first)
        offset = self.offsets[:-1][users]
        return Excerpts(users, offset + start, offset + begin, offset + end)

    def training_targets(self, *, ordered: bool = True) -> tuple[Tensor, Tensor]:
        """The targets of all training excerpts: their users and their positions in `items`, int64 [T] each."""
        users, rank = numbered(torch.where(self.num_train > 1, self.num_train, 0))
        position = self.offsets[:-1][users] + rank
        keep = rank >= (1 if ordered else 0)
        keep = keep if self.weights is None else keep & (self.weights[position] > 0)
        return users[keep], position[keep]

    def excerpt_rows(self, excerpts: Excerpts, width: int) -> tuple[Tensor, Tensor]:
        """The items of each excerpt, and what each of them counts as a target.

        Returns:
            Items int64 [W, width], -1 after the last one; and weights float32 [W, width], 0 for an item that is no target.
        """
        position = excerpts.start[:, None] + torch.arange(width)
        is_target = (position >= excerpts.first_target[:, None]) & (position < excerpts.end[:, None])
        weights = is_target.float()
        if self.weights is not None:
            weights *= self.weights[position.clamp(max=max(0, len(self.items) - 1))]
        return self._padded(excerpts.start, excerpts.end, width), weights

    def places(self) -> tuple[Tensor, Tensor]:
        """The user of each event, and the event's place in the user's run: int64 [E] each."""
        return numbered(self.offsets.diff())

    def shuffled(self, generator: torch.Generator) -> "Sequences":
        """The same users, with the training events of each one in another random order."""
        user, rank = self.places()
        train = rank < self.num_train[user]
        # Keys of training events are random below 1; all others stay behind them, in their order.
        key = torch.where(train, torch.rand(len(user), generator=generator, dtype=torch.float64), 1.0 + rank)
        by_key = key.argsort(stable=True)
        order = by_key[user[by_key].argsort(stable=True)]
        return replace(self, items=self.items[order], weights=None if self.weights is None else self.weights[order])

    def histories(self, users: Tensor, ends: Tensor, max_history: int) -> Tensor:
        """int64 [B, max_history]: each user's latest events before position `ends`, oldest first; -1 after the last one."""
        start = torch.maximum(self.offsets[users], ends - max_history)
        return self._padded(start, ends, max_history)

    def _padded(self, start: Tensor, end: Tensor, width: int) -> Tensor:
        columns = start[:, None] + torch.arange(width)
        if not len(self.items):  # users of whom something else is known
            return torch.full_like(columns, -1)
        return torch.where(columns < end[:, None], self.items[columns.clamp(max=len(self.items) - 1)], -1)

    def evaluation_users(self, split: str, *, new: bool = False) -> Tensor:
        """int64: users with at least one target in `split` (validation or holdout) and a training history.

        With `new`, it is users with such a target and no event before the split, of whom some feature is known.
        """
        start, end = self._bounds(split)
        has_target = end > start
        if self.weights is not None:
            before = torch.cat([start.new_zeros(1), (self.weights > 0).long().cumsum(0)])
            has_target = before[end] > before[start]
        if new:
            of_whom = has_target & (start == self.offsets[:-1])
            is_known = None if self.features is None else ~self.features.isnan().all(1)
            return torch.nonzero(of_whom & is_known).flatten() if is_known is not None else start.new_zeros(0)
        return torch.nonzero(has_target & (self.num_train > 0)).flatten()

    def known_ends(self, users: Tensor, split: str) -> Tensor:
        """int64 [B]: position where each user's known past ends and `split` begins."""
        return self._bounds(split)[0][users]

    def relevant(self, users: Tensor, split: str) -> tuple[Tensor, Tensor]:
        """The targets of `split` as pairs: row int64 [P] in `users`, item int64 [P]."""
        row, position = self._positions(users, *self._bounds(split))
        if self.weights is not None:
            counts = self.weights[position] > 0
            row, position = row[counts], position[counts]
        return row, self.items[position]

    def seen(self, users: Tensor, split: str) -> tuple[Tensor, Tensor]:
        """What must not be retrieved, as pairs: row int64 [P] in `users`, item int64 [P].

        These are the items of all events before `split`, unless they may come `again`, and unwanted items.
        """
        none = users.new_zeros(0)
        row, position = (none, none) if self.again else self._positions(users, self.offsets[:-1], self._bounds(split)[0])
        unwanted = self._unwanted_of(users)
        if unwanted is None:
            return row, self.items[position]
        return torch.cat([row, unwanted[0]]), torch.cat([self.items[position], unwanted[1]])

    def _bounds(self, split: str) -> tuple[Tensor, Tensor]:
        start = self.offsets[:-1]
        match split:
            case "validation":
                return start + self.num_train, start + self.num_train + self.num_validation
            case "holdout":
                return start + self.num_train + self.num_validation, self.offsets[1:]
        raise ValueError(f"split must be 'validation' or 'holdout', got {split!r}")

    def _positions(self, users: Tensor, start: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Row in `users` and position of each event between the bounds of the users: int64 [P] each."""
        start, count = start[users], (end - start)[users]
        row, within = numbered(count)
        return row, start[row] + within

    def _unwanted_of(self, users: Tensor) -> tuple[Tensor, Tensor] | None:
        """Unwanted items of some users: their rows in `users`, and the items."""
        if self.unwanted is None:
            return None
        of_user, items = self.unwanted
        count = torch.bincount(of_user, minlength=self.num_users)
        row, within = numbered(count[users])
        return row, items[(count.cumsum(0) - count)[users][row] + within]


def by_length(rows_BL: Tensor) -> list[tuple[Tensor, int]]:
    """Rows in groups of like length, so that a short one is not padded to the longest one's width.

    Args:
        rows_BL: int64 [B, L], -1 after the last entry of each row.

    Returns:
        Groups, shortest first: the rows of each, int64, and the width l that holds them all. l is at most L and, if it is above
        4, less than twice the length of any row in the group.
    """
    length = (rows_BL >= 0).sum(1)
    order = length.argsort(stable=True)
    width = torch.exp2(length[order].clamp_min(4).log2().ceil()).long().clamp(max=rows_BL.shape[1])
    widths, counts = torch.unique_consecutive(width, return_counts=True)
    return list(zip(order.split(counts.tolist()), widths.tolist(), strict=True))
