"""Batches from a log in blocks, against the log as a whole."""

from collections import Counter

import pytest
import torch

from esans_core.loader import Batch, Loader
from esans_core.sequences import Sequences
from esans_core.world import World

NUM_USERS, L = 60, 5
COLUMNS = ("users", "history_BL", "positives")


class Blocks:
    """A log in blocks of a few users that counts what is read."""

    def __init__(self, whole: Sequences, users_per_block: int) -> None:
        self.whole, self.size, self.reads = whole, users_per_block, Counter[int]()

    @property
    def num_users(self) -> int:
        return self.whole.num_users

    @property
    def num_blocks(self) -> int:
        return -(-self.num_users // self.size)

    def users(self, block: int) -> range:
        return range(block * self.size, min((block + 1) * self.size, self.num_users))

    def num_train_events(self, block: int) -> torch.Tensor:
        rows = self.users(block)
        return self.whole.num_train[rows.start : rows.stop]

    def read(self, block: int) -> Sequences:
        self.reads[block] += 1
        rows = self.users(block)
        return self.whole.select(torch.arange(rows.start, rows.stop))


def whole_log() -> Sequences:
    generator = torch.Generator().manual_seed(0)
    length = torch.randint(0, 12, (NUM_USERS,), generator=generator)
    items = torch.arange(int(length.sum()))  # every event is another item, so that an item names an event
    return Sequences(items, torch.cat([torch.zeros(1, dtype=torch.long), length.cumsum(0)]), length * 2 // 3, length // 6)


def loader(log: object, world: World = World(), **options: int) -> Loader:  # noqa: B008
    return Loader(log, **({"batch_size": 24, "max_history": L} | options), world=world)  # type: ignore[arg-type]


def together(parts: list[list[Batch]]) -> list[Batch]:
    """The batches of several processes put together."""
    return [
        Batch(
            *(torch.cat([getattr(part, name) for part in batch]) for name in ("users", "history_BL", "positives")),
            batch[0].size,
        )
        for batch in zip(*parts, strict=True)
    ]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(a, name), getattr(b, name)) and a.size == b.size
        for a, b in zip(one, other, strict=True)
        for name in COLUMNS
    )


@pytest.mark.parametrize("window", [1, 30, 1000])
def test_an_epoch_holds_every_target_once_with_its_own_history(window: int) -> None:
    whole = whole_log()
    users, positions = whole.training_targets()
    batches = list(loader(Blocks(whole, 7), window_targets=window).epoch(3).batches())
    positives = torch.cat([batch.positives for batch in batches])
    place = torch.searchsorted(positions, positives)  # an item is its own position
    assert torch.equal(positives.sort().values, positions)
    assert torch.equal(torch.cat([batch.users for batch in batches]), users[place])
    assert torch.equal(torch.cat([batch.history_BL for batch in batches]), whole.histories(users[place], positives, L))
    assert [len(batch.users) for batch in batches[:-1]] == [24] * (len(batches) - 1)


def test_a_log_that_fits_in_a_window_is_shuffled_as_a_whole_however_it_is_cut() -> None:
    whole = whole_log()
    expected = list(loader(whole).epoch(5).batches())
    assert same(list(loader(Blocks(whole, 7), num_shards=4).epoch(5).batches()), expected)
    order = torch.randperm(len(whole.training_targets()[0]), generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.cat([batch.positives for batch in expected]), whole.training_targets()[1][order])
    assert not same(list(loader(whole).epoch(6).batches()), expected)


@pytest.mark.parametrize("num_shards", [1, 2, 4])
def test_batches_are_the_same_for_any_number_of_processes(num_shards: int) -> None:
    whole, options = whole_log(), {"window_targets": 20, "num_shards": num_shards}
    expected = list(loader(Blocks(whole, 4), **options).epoch(1).batches())
    for size in (2, 3, 4):
        logs = [Blocks(whole, 4) for _ in range(size)]
        parts = [list(loader(log, World(rank, size), **options).epoch(1).batches()) for rank, log in enumerate(logs)]
        assert same(together(parts), expected)
        if num_shards == size:  # then every process reads blocks of its own
            assert sum((log.reads for log in logs), Counter()).most_common(1)[0][1] == 1


def test_shards_leave_out_little_and_say_how_much() -> None:
    whole = whole_log()
    epoch = loader(Blocks(whole, 2), window_targets=20, num_shards=3).epoch(1)
    seen = torch.cat([batch.positives for batch in epoch.batches()])
    targets = len(whole.training_targets()[0])
    assert len(seen) == len(seen.unique()) == targets - epoch.num_left_out
    assert epoch.num_left_out <= 2 * 3 * 7, "at most the largest block for each shard"
    assert loader(Blocks(whole, 2), window_targets=20).epoch(1).num_left_out == 0


@pytest.mark.parametrize("num_shards", [1, 2])
def test_going_on_from_a_batch_reads_only_what_is_to_come(num_shards: int) -> None:
    whole, options = whole_log(), {"window_targets": 20, "num_shards": num_shards}
    expected = list(loader(Blocks(whole, 4), **options).epoch(2).batches())
    for first in range(len(expected)):
        log = Blocks(whole, 4)
        assert same(list(loader(log, **options).epoch(2).batches(first)), expected[first:])
    assert log.reads.total() < log.num_blocks / 2


def test_a_sample_of_users_keeps_all_or_none_of_a_users_events() -> None:
    whole = whole_log()
    everyone = Counter(torch.cat([batch.users for batch in loader(whole).epoch(1).batches()]).tolist())
    some = Loader(Blocks(whole, 7), batch_size=24, max_history=L, sample_fraction=0.5, sample_seed=1)
    found = Counter(torch.cat([batch.users for batch in some.epoch(1).batches()]).tolist())
    assert 0 < len(found) < len(everyone) and sum(found.values()) == some.num_targets
    assert all(count == everyone[user] for user, count in found.items())


def test_sizes_that_cannot_be_shared_are_refused() -> None:
    with pytest.raises(ValueError, match="divide by 5 shards"):
        loader(whole_log(), num_shards=5)
    with pytest.raises(ValueError, match="a row for each of 9 processes"):
        loader(whole_log(), World(0, 9), batch_size=8)
    pairs = Sequences(torch.arange(6), torch.tensor([0, 2, 4, 6]), torch.tensor([2, 2, 2]), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="ask for fewer shards"):
        loader(Blocks(pairs, 1), World(0, 3), num_shards=2, window_targets=1).epoch(0)
