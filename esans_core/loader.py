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

from esans_core.excerpts import excerpt_counts, target_counts
from esans_core.hashing import uniform_hash
from esans_core.sequences import Sequences
from esans_core.world import World

WINDOW_TARGETS = 8_000_000  # about 300 MB if histories have like length
_LARGE_SET = 16  # targets of an excerpt on average, from which on a set without one of them is nearly the same set
_LARGE_SETS = 128  # excerpts of a step of such sets, at least


class EventLog(Protocol):
    """Users' events, in blocks of consecutive users.

    A log whose events have weights also has `num_history_only(block)`: int64 [users of the block], training events of each that
    are never targets.
    """

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
    """This process's part of a batch: w excerpts of users' events, which have b targets together.

    Attributes:
        users: int64 [w], row of each excerpt's user in the log.
        items_wE: int64 [w, E], items of each excerpt, oldest first, -1 after the last one; E is L + 1.
        weights_wE: float32 [w, E], how much each of these events counts as a target, 0 if it is none.
        first: number of this process's first excerpt in the batch.
        features_wG: float32 [w, G], what is known of each excerpt's user beside events; None if nothing is.
    """

    users: Tensor
    items_wE: Tensor
    weights_wE: Tensor
    first: int = 0
    features_wG: Tensor | None = None

    @property
    def is_target_wE(self) -> Tensor:
        """bool [w, E], which of the events are targets."""
        return self.weights_wE > 0

    @property
    def positives(self) -> Tensor:
        """int64 [b], items of the targets."""
        return self.items_wE[self.is_target_wE]

    @property
    def weights(self) -> Tensor:
        """float32 [b], weights of the targets."""
        return self.weights_wE[self.is_target_wE]

    @property
    def excerpt_of_target(self) -> Tensor:
        """int64 [b], excerpt of each target: its row in `items_wE`."""
        return torch.nonzero(self.is_target_wE)[:, 0]


class Loader:
    """Makes the batches of each epoch.

    Args:
        log: the users' events.
        batch_size: positives of a step, over all processes, on average: a batch holds whole excerpts of users' events, and a
            number of them that gives so many positives over an epoch. A last batch that has only one excerpt, or fewer than
            there are processes, is dropped. A batch of large sets has 128 excerpts at least.
        max_history: L, longest history.
        ordered: whether a target is predicted from the events before it. If not, each user's events are shuffled anew in each
            epoch, and a target is predicted from the other events of its excerpt.
        window_targets: how many events are shuffled together and held in memory by one shard; a block is never divided.
        num_shards: how many parts of the log are read side by side. Each process reads the shards that its rows come from. So
            with as many shards as processes, each reads its own part. If the log has fewer blocks than shards or fits in a
            window, there is one shard, which all processes read.
        sample_fraction: share of users whose events are used.
        sample_seed: decides which users these are.
        world: this process among those that train together.

    Attributes:
        large_sets: whether excerpts are sets of 16 targets or more on average. Then their negatives may be scored once for all
            targets of a set (`Excerpts`), which is several times as fast.
        weighted: whether events have weights, of which some may be 0.
        num_targets: T, training events of an epoch that have a history, or, without order, another event beside them.
        excerpts_per_batch: excerpts of a step, over all processes.
        block_targets: how many targets each block holds.
        block_excerpts: how many excerpts each block holds.

    Raises:
        ValueError: fewer than two targets, or fewer users with one than there are processes.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        batch_size: int,
        max_history: int,
        ordered: bool = True,
        window_targets: int = WINDOW_TARGETS,
        num_shards: int = 1,
        sample_fraction: float = 1.0,
        sample_seed: int = 0,
        world: World = World(),  # noqa: B008  (immutable)
    ) -> None:
        self.log, self.max_history, self.ordered = log, max_history, ordered
        self.window_targets, self.world = window_targets, world
        self._sample_fraction, self._sample_seed = sample_fraction, sample_seed
        self.weighted = any(_history_only(log, block) is not None for block in range(log.num_blocks))
        counts = [self._counts(block) for block in range(log.num_blocks)]
        self.block_targets, self.block_excerpts = [count[0] for count in counts], [count[1] for count in counts]
        self.num_targets = sum(self.block_targets)
        num_excerpts, least = sum(self.block_excerpts), max(2, world.size)
        if num_excerpts < least:
            raise ValueError(
                f"{num_excerpts} excerpts of training events: at least {least} users with a training event and another one "
                "before it are needed"
            )
        used = sum(count > 0 for count in self.block_targets)
        self.num_shards = num_shards if self.num_targets > window_targets and used >= num_shards else 1
        self.large_sets = not ordered and self.num_targets >= _LARGE_SET * num_excerpts
        least = max(least, min(_LARGE_SETS, num_excerpts)) if self.large_sets else least
        wanted = max(least, round(batch_size * num_excerpts / self.num_targets))
        self.excerpts_per_batch = -(-wanted // self.num_shards) * self.num_shards

    def epoch(self, seed: int) -> "Epoch":
        """The batches of one epoch, in an order that depends only on the seed; give each epoch another seed."""
        shards = [_Shard(self, seed + _SHARD * number) for number in range(self.num_shards)]
        for block in torch.randperm(len(self.block_targets), generator=torch.Generator().manual_seed(seed)).tolist():
            if self.block_targets[block]:
                min(shards, key=lambda shard: shard.num_targets).add(block)
        return Epoch(self, shards)

    def target_frequency(self, num_items: int, device: torch.device | str | None = None) -> Tensor:
        """How often each item is the target of a training event: the chance that a row of a batch has it as its positive.

        This is the distribution of in-batch negatives, so the logQ correction needs it. In a log with an order, a count of all
        training events would include each user's first one, which has no history and is no target. The log is read once. If
        there are several processes, each reads a part of it, and all get the sum.

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
                items = part.items[part.training_targets(ordered=self.ordered)[1]]
                if int(items.max()) >= num_items:
                    raise ValueError(f"the log has an item row {int(items.max())}, expected less than num_items = {num_items}")
                counts += torch.bincount(items, minlength=num_items)
        total = self.world.sum(counts.to(device))
        return total / total.sum().clamp_min(1)

    def chosen(self, block: int) -> Tensor | None:
        """bool [users of the block], True for users whose events are used; None if all users' events are."""
        if self._sample_fraction >= 1:
            return None
        rows = self.log.users(block)
        return uniform_hash(torch.arange(rows.start, rows.stop), self._sample_seed) < self._sample_fraction

    def _counts(self, block: int) -> tuple[int, int]:
        """Targets and excerpts of a block."""
        events, history, chosen = self.log.num_train_events(block), _history_only(self.log, block), self.chosen(block)
        if chosen is not None:
            events, history = events[chosen], None if history is None else history[chosen]
        targets = target_counts(events, ordered=self.ordered)
        if history is not None:  # whether the first event of a user is one of them is not known here; it is no target anyway
            targets = torch.minimum(targets, events - history)
        return int(targets.sum()), int(excerpt_counts(events, self.max_history).sum())


def _history_only(log: EventLog, block: int) -> Tensor | None:
    ask = getattr(log, "num_history_only", None)
    return None if ask is None else ask(block)


class Epoch:
    """The batches of one epoch. Make it with `Loader.epoch`.

    Attributes:
        num_batches: how many batches there are.
        num_left_out: excerpts that are in no batch: the ends of the longer shards, and a last batch that is dropped.
    """

    def __init__(self, loader: Loader, shards: "list[_Shard]") -> None:
        self._shards, self._world = shards, loader.world
        self._rows = loader.excerpts_per_batch // len(shards)
        self._shortest = min(shard.num_excerpts for shard in shards)
        full, rest = divmod(self._shortest, self._rows)
        short = rest * len(shards) >= max(2, loader.world.size)
        self.num_batches = full + short
        if self.num_batches == 0:
            raise ValueError(f"a shard of the log has {self._shortest} excerpts, too few for a batch: ask for fewer shards")
        used = (self._shortest if short else full * self._rows) * len(shards)
        self.num_left_out = sum(loader.block_excerpts) - used

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """The batches from number `first` on. Windows that lie before this batch are not read."""
        for number in range(first, self.num_batches):
            start = number * self._rows
            count = min(self._rows, self._shortest - start)
            mine = self._world.rows(count * len(self._shards))
            parts: list[tuple[Tensor, ...]] = []
            for place, shard in enumerate(self._shards):
                low, high = max(mine.start - place * count, 0), min(mine.stop - place * count, count)
                if low < high:
                    parts += shard.rows(start + low, start + high)
            users, items_wE, weights_wE, *features_wG = (torch.cat(columns) for columns in zip(*parts, strict=True))
            yield Batch(users, items_wE, weights_wE, mine.start, *features_wG)


_SHARD, _WINDOW = 0x51_7CC1_B727, 0x2_7220_A95F  # large and odd, so that seeds of shards, windows and epochs differ


@dataclass
class _Window:
    """Blocks that are read together, and the place of their first excerpt in the shard."""

    start: int
    blocks: list[int] = field(default_factory=list)
    num_targets: int = 0
    num_excerpts: int = 0


class _Shard:
    """The excerpts of some blocks in random order, of which one window is in memory at a time."""

    def __init__(self, loader: Loader, seed: int) -> None:
        self._loader, self._seed = loader, seed
        self._windows: list[_Window] = []
        self._open: tuple[int, _Events] | None = None
        self.num_targets = self.num_excerpts = 0

    def add(self, block: int) -> None:
        targets, excerpts = self._loader.block_targets[block], self._loader.block_excerpts[block]
        if not self._windows or self._windows[-1].num_targets + targets > self._loader.window_targets:
            self._windows.append(_Window(self.num_excerpts))
        self._windows[-1].blocks.append(block)
        self._windows[-1].num_targets += targets
        self._windows[-1].num_excerpts += excerpts
        self.num_targets += targets
        self.num_excerpts += excerpts

    def rows(self, start: int, stop: int) -> Iterator[tuple[Tensor, ...]]:
        """Users, items, targets and, if known, users' features of the excerpts `start` to `stop` of the shard's order."""
        while start < stop:
            number = bisect_right(self._windows, start, key=lambda window: window.start) - 1
            window = self._windows[number]
            end = min(stop, window.start + window.num_excerpts)
            yield self._events(number).rows(start - window.start, end - window.start)
            start = end

    def _events(self, number: int) -> "_Events":
        if self._open is None or self._open[0] != number:
            self._open = None  # let go before the next one is read, so that two windows are never in memory
            seed = self._seed + _WINDOW * number
            self._open = number, _Events(self._loader, sorted(self._windows[number].blocks), seed)
        return self._open[1]


class _Events:
    """The excerpts of one window, shuffled."""

    def __init__(self, loader: Loader, blocks: Sequence[int], seed: int) -> None:
        users, parts = [], []
        for block in blocks:
            rows, chosen = loader.log.users(block), loader.chosen(block)
            users.append(torch.arange(rows.start, rows.stop))
            parts.append(loader.log.read(block))
            if chosen is not None:
                users[-1], parts[-1] = users[-1][chosen], parts[-1].select(torch.nonzero(chosen).flatten())
        generator = torch.Generator().manual_seed(seed)
        sequences, self._width = Sequences.cat(parts), loader.max_history + 1
        self._sequences = sequences if loader.ordered else sequences.shuffled(generator)
        excerpts = sequences.training_excerpts(loader.max_history, ordered=loader.ordered)
        self._users = torch.cat(users)
        self._excerpts = excerpts.take(torch.randperm(len(excerpts.users), generator=generator))

    def rows(self, start: int, stop: int) -> tuple[Tensor, ...]:
        excerpts = self._excerpts.take(torch.arange(start, stop))
        features = self._sequences.features
        beside = () if features is None else (features[excerpts.users],)
        return self._users[excerpts.users], *self._sequences.excerpt_rows(excerpts, self._width), *beside
