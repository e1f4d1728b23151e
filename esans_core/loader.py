"""Batches of training events from a log that need not fit in memory.

A log is read in blocks. Each block holds the whole sequences of some users, such as a row group of a Parquet file. An epoch
deals the blocks in random order to shards. Each shard reads its blocks in windows of bounded size and shuffles the events
inside a window. Each batch takes an equal run of rows from every shard. All of this follows from the seed and from the number
of events in each block. So any process can make any batch without the ones before it, and the batches are the same for any
number of processes. A log that fits in one window is shuffled as a whole.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from esans_core.hashing import uniform_hash
from esans_core.sequences import Sequences
from esans_core.world import World

WINDOW_TARGETS = 8_000_000  # about 300 MB if histories have like length


class EventLog(Protocol):
    """Users' events, in blocks of consecutive users."""

    @property
    def num_users(self) -> int:
        """U, users in all blocks."""
        ...

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        ...

    def users(self, block: int) -> range:
        """Rows of the block's users among all users."""
        ...

    def num_train_events(self, block: int) -> Tensor:
        """int64 [users of the block], training events of each."""
        ...

    def read(self, block: int) -> Sequences:
        """The block's sequences."""
        ...


@dataclass(frozen=True)
class Batch:
    """This process's rows of a batch.

    Attributes:
        users: int64 [b], row of each event's user in the log.
        history_BL: int64 [b, L], items of the events before it, aligned to the right, -1 where there is none.
        positives: int64 [b], the event's own item.
        size: B, rows of all processes together.
    """

    users: Tensor
    history_BL: Tensor
    positives: Tensor
    size: int


class Loader:
    """Makes the batches of each epoch.

    Args:
        log: the users' events.
        batch_size: positives of a step, over all processes. A last batch that has only one event, or fewer events than there
            are processes, is dropped.
        max_history: L, longest history.
        window_targets: how many events are shuffled together and held in memory by one shard; a block is never divided.
        num_shards: how many parts of the log are read side by side. Each process reads the shards that its rows come from. So
            with as many shards as processes, each reads its own part. If the log has fewer blocks than shards or fits in a
            window, there is one shard, which all processes read.
        sample_fraction: share of users whose events are used.
        sample_seed: decides which users these are.
        world: this process among those that train together.

    Attributes:
        num_targets: T, training events of an epoch that have a history.
        block_targets: how many of these events each block holds.

    Raises:
        ValueError: fewer than two events with a history, or a batch size that shards and processes cannot share.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        batch_size: int,
        max_history: int,
        window_targets: int = WINDOW_TARGETS,
        num_shards: int = 1,
        sample_fraction: float = 1.0,
        sample_seed: int = 0,
        world: World = World(),  # noqa: B008  (immutable)
    ) -> None:
        if batch_size % num_shards or batch_size < max(2, world.size):
            raise ValueError(
                f"a batch of {batch_size} must hold a row for each of {world.size} processes and divide by {num_shards} shards"
            )
        self.log, self.batch_size, self.max_history = log, batch_size, max_history
        self.window_targets, self.world = window_targets, world
        self._sample_fraction, self._sample_seed = sample_fraction, sample_seed
        self.block_targets = [self._count(block) for block in range(log.num_blocks)]
        self.num_targets = sum(self.block_targets)
        least = max(2, world.size)
        if self.num_targets < least:
            raise ValueError(
                f"{self.num_targets} training targets: at least {least} events with a history before them are needed"
            )
        used = sum(count > 0 for count in self.block_targets)
        self.num_shards = num_shards if self.num_targets > window_targets and used >= num_shards else 1

    def epoch(self, seed: int) -> "Epoch":
        """The batches of one epoch, in an order that depends only on the seed; give each epoch another seed."""
        shards = [_Shard(self, seed + _SHARD * number) for number in range(self.num_shards)]
        for block in torch.randperm(len(self.block_targets), generator=torch.Generator().manual_seed(seed)).tolist():
            if self.block_targets[block]:
                min(shards, key=lambda shard: shard.num_targets).add(block)
        return Epoch(self, shards)

    def target_frequency(self, num_items: int, device: torch.device | str | None = None) -> Tensor:
        """How often each item is the target of a training event: the chance that a row of a batch has it as its positive.

        This is the distribution of in-batch negatives, so the logQ correction needs it. A count of all training events would
        include each user's first one, which has no history and is no target. The log is read once. If there are several
        processes, each reads a part of it, and all get the sum.

        Args:
            num_items: N.
            device: where the result is wanted. With several processes, it must be the device on which their collectives run.

        Returns:
            float32 [N], sums to 1.

        Raises:
            ValueError: a target is not below `num_items`.
        """
        counts = torch.zeros(num_items, dtype=torch.long)
        for block in range(self.world.rank, self.log.num_blocks, self.world.size):
            if self.block_targets[block]:
                part, chosen = self.log.read(block), self.chosen(block)
                part = part if chosen is None else part.select(torch.nonzero(chosen).flatten())
                items = part.items[part.training_targets()[1]]
                if int(items.max()) >= num_items:
                    raise ValueError(f"the log has an item row {int(items.max())}, expected less than num_items = {num_items}")
                counts += torch.bincount(items, minlength=num_items)
        return self.world.sum(counts.to(device)) / self.num_targets

    def chosen(self, block: int) -> Tensor | None:
        """bool [users of the block], True for users whose events are used; None if all users' events are."""
        if self._sample_fraction >= 1:
            return None
        rows = self.log.users(block)
        return uniform_hash(torch.arange(rows.start, rows.stop), self._sample_seed) < self._sample_fraction

    def _count(self, block: int) -> int:
        targets, chosen = (self.log.num_train_events(block) - 1).clamp_min(0), self.chosen(block)
        return int((targets if chosen is None else targets[chosen]).sum())


class Epoch:
    """The batches of one epoch. Make it with `Loader.epoch`.

    Attributes:
        num_batches: how many batches there are.
        num_left_out: events that are in no batch: the ends of the longer shards, and a last batch that is dropped.
    """

    def __init__(self, loader: Loader, shards: "list[_Shard]") -> None:
        self._shards, self._world = shards, loader.world
        self._rows = loader.batch_size // len(shards)
        self._shortest = min(shard.num_targets for shard in shards)
        full, rest = divmod(self._shortest, self._rows)
        short = rest * len(shards) >= max(2, loader.world.size)
        self.num_batches = full + short
        if self.num_batches == 0:
            raise ValueError(
                f"a shard of the log has {self._shortest} training targets, too few for a batch: ask for fewer shards"
            )
        used = (self._shortest if short else full * self._rows) * len(shards)
        self.num_left_out = loader.num_targets - used

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """The batches from number `first` on. Windows that lie before this batch are not read."""
        for number in range(first, self.num_batches):
            start = number * self._rows
            count = min(self._rows, self._shortest - start)
            size = count * len(self._shards)
            mine = self._world.rows(size)
            parts: list[tuple[Tensor, Tensor, Tensor]] = []
            for place, shard in enumerate(self._shards):
                low, high = max(mine.start - place * count, 0), min(mine.stop - place * count, count)
                if low < high:
                    parts += shard.rows(start + low, start + high)
            users, history_BL, positives = (torch.cat(columns) for columns in zip(*parts, strict=True))
            yield Batch(users, history_BL, positives, size)


_SHARD, _WINDOW = 0x51_7CC1_B727, 0x2_7220_A95F  # large and odd, so that seeds of shards, windows and epochs differ


@dataclass
class _Window:
    """Blocks that are read together, and the place of their first event in the shard."""

    start: int
    blocks: list[int] = field(default_factory=list)
    num_targets: int = 0


class _Shard:
    """The events of some blocks in random order, of which one window is in memory at a time."""

    def __init__(self, loader: Loader, seed: int) -> None:
        self._loader, self._seed = loader, seed
        self._windows: list[_Window] = []
        self._open: tuple[int, _Events] | None = None

    @property
    def num_targets(self) -> int:
        return self._windows[-1].start + self._windows[-1].num_targets if self._windows else 0

    def add(self, block: int) -> None:
        count, end = self._loader.block_targets[block], self.num_targets
        if not self._windows or self._windows[-1].num_targets + count > self._loader.window_targets:
            self._windows.append(_Window(end))
        self._windows[-1].blocks.append(block)
        self._windows[-1].num_targets += count

    def rows(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Users, histories and items of events `start` to `stop` of the shard's order."""
        while start < stop:
            number = bisect_right(self._windows, start, key=lambda window: window.start) - 1
            window = self._windows[number]
            end = min(stop, window.start + window.num_targets)
            yield self._events(number).rows(start - window.start, end - window.start)
            start = end

    def _events(self, number: int) -> "_Events":
        if self._open is None or self._open[0] != number:
            self._open = None  # let go before the next one is read, so that two windows are never in memory
            seed = self._seed + _WINDOW * number
            self._open = number, _Events(self._loader, sorted(self._windows[number].blocks), seed)
        return self._open[1]


class _Events:
    """The events of one window, shuffled."""

    def __init__(self, loader: Loader, blocks: Sequence[int], seed: int) -> None:
        users, parts = [], []
        for block in blocks:
            rows, chosen = loader.log.users(block), loader.chosen(block)
            users.append(torch.arange(rows.start, rows.stop))
            parts.append(loader.log.read(block))
            if chosen is not None:
                users[-1], parts[-1] = users[-1][chosen], parts[-1].select(torch.nonzero(chosen).flatten())
        self._sequences, self._max_history = Sequences.cat(parts), loader.max_history
        owner, position = self._sequences.training_targets()
        order = torch.randperm(len(owner), generator=torch.Generator().manual_seed(seed))
        self._users, self._owner, self._position = torch.cat(users), owner[order], position[order]

    def rows(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        owner, position = self._owner[start:stop], self._position[start:stop]
        history_BL = self._sequences.histories(owner, position, self._max_history)
        return self._users[owner], history_BL, self._sequences.items[position]
