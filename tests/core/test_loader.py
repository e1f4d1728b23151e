"""Batches from a log in blocks, against the log as a whole."""

from collections import Counter

import pytest
import torch

from esans_core.loader import Batch, Loader
from esans_core.sequences import Sequences
from esans_core.world import World

NUM_USERS, L = 60, 5
COLUMNS = ("users", "items_wE", "is_target_wE")


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
    """The batches of several processes put together; each must begin where the one before it ends."""
    for batch in zip(*parts, strict=True):
        assert [part.first for part in batch] == [sum(len(other.users) for other in batch[:rank]) for rank in range(len(batch))]
    return [
        Batch(*(torch.cat([getattr(part, name) for part in batch]) for name in COLUMNS)) for batch in zip(*parts, strict=True)
    ]


def same(one: list[Batch], other: list[Batch]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(getattr(a, name), getattr(b, name)) for a, b in zip(one, other, strict=True) for name in COLUMNS
    )


def targets(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.positives for batch in batches])


@pytest.mark.parametrize("window", [1, 30, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_an_epoch_holds_every_target_once_among_events_of_its_own_user(window: int, ordered: bool) -> None:
    whole = whole_log()
    made = loader(Blocks(whole, 7), window_targets=window, ordered=ordered)
    batches = list(made.epoch(3).batches())
    assert torch.equal(targets(batches).sort().values, whole.training_targets(ordered=ordered)[1])  # an item is its position
    assert len(targets(batches)) == made.num_targets
    assert [len(batch.users) for batch in batches[:-1]] == [made.excerpts_per_batch] * (len(batches) - 1)
    assert len(batches[0].positives) == pytest.approx(24, rel=0.5)
    for batch in batches:
        for user, items, is_target in zip(batch.users.tolist(), batch.items_wE, batch.is_target_wE, strict=True):
            start, train = int(whole.offsets[user]), int(whole.num_train[user])
            own = items[items >= 0]
            assert len(own) <= L + 1 and torch.equal(items[len(own) :], torch.full((L + 1 - len(own),), -1))
            assert not is_target[len(own) :].any()
            if ordered:  # a run of the user's events; a target has all events before it, or at least half a history
                assert torch.equal(own, torch.arange(own[0], own[0] + len(own)))
                first = int(torch.nonzero(is_target)[0])
                assert int(own[0]) == start and first == 1 or first > L // 2
            else:  # a target has all other events of the user beside it, or a whole history
                assert len(own) == min(train, L + 1)
            assert int(own.min()) >= start and int(own.max()) < start + train


def test_a_log_that_fits_in_a_window_is_shuffled_as_a_whole_however_it_is_cut() -> None:
    whole = whole_log()
    expected = list(loader(whole).epoch(5).batches())
    assert same(list(loader(Blocks(whole, 7), num_shards=4).epoch(5).batches()), expected)
    users = whole.training_excerpts(L).users
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.cat([batch.users for batch in expected]), users[order])
    assert not same(list(loader(whole).epoch(6).batches()), expected)


def test_without_order_each_epoch_shuffles_the_events_of_a_user_anew() -> None:
    whole = whole_log()
    of_epoch = []
    for seed in (1, 2):
        found = {}
        for batch in loader(whole, ordered=False).epoch(seed).batches():
            for user, items in zip(batch.users.tolist(), batch.items_wE.tolist(), strict=True):
                found.setdefault(user, []).append(items)
        of_epoch.append(found)
    changed = [user for user in of_epoch[0] if of_epoch[0][user] != of_epoch[1][user]]
    assert len(changed) > len(of_epoch[0]) / 2
    shuffled = whole.shuffled(torch.Generator().manual_seed(0))
    for user in range(NUM_USERS):
        start, end = whole.offsets[user : user + 2].tolist()
        train = start + int(whole.num_train[user])
        assert torch.equal(shuffled.items[start:train].sort().values, whole.items[start:train])
        assert torch.equal(shuffled.items[train:end], whole.items[train:end]), "only training events are shuffled"


@pytest.mark.parametrize("num_shards", [1, 2, 4])
def test_batches_are_the_same_for_any_number_of_processes(num_shards: int) -> None:
    whole, options = whole_log(), {"window_targets": 20, "num_shards": num_shards, "batch_size": 30}
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
    seen = list(epoch.batches())
    assert len(targets(seen)) == len(targets(seen).unique())
    excerpts = len(whole.training_excerpts(L).users)
    assert sum(len(batch.users) for batch in seen) == excerpts - epoch.num_left_out
    assert 0 < epoch.num_left_out <= 2 * 3 * 2, "at most the largest block for each shard"
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

    def of_each(made: Loader) -> Counter[int]:
        batches = list(made.epoch(1).batches())
        return Counter(torch.cat([batch.users[batch.excerpt_of_target] for batch in batches]).tolist())

    everyone = of_each(loader(whole))
    some = Loader(Blocks(whole, 7), batch_size=24, max_history=L, sample_fraction=0.5, sample_seed=1)
    found = of_each(some)
    assert 0 < len(found) < len(everyone) and sum(found.values()) == some.num_targets
    assert all(count == everyone[user] for user, count in found.items())


def test_sizes_that_cannot_be_shared_are_refused() -> None:
    pairs = Sequences(torch.arange(6), torch.tensor([0, 2, 4, 6]), torch.tensor([2, 2, 2]), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="at least 9 users with a training event"):
        loader(pairs, World(0, 9))
    with pytest.raises(ValueError, match="ask for fewer shards"):
        loader(Blocks(pairs, 1), World(0, 3), num_shards=2, window_targets=1).epoch(0)


@pytest.mark.parametrize(("length", "large"), [(15, False), (16, True)])
def test_a_batch_of_large_sets_has_many_of_them(length: int, large: bool) -> None:
    """A target of a set has all others beside it, so a set of 16 events has 16 targets."""
    offsets = torch.arange(301) * length
    log = Sequences.past(torch.arange(300 * length) % 999, offsets)
    loader = Loader(log, batch_size=64, max_history=L * 4, ordered=False)
    assert (loader.large_sets, loader.excerpts_per_batch) == (large, 128 if large else round(64 / length))
    assert not Loader(log, batch_size=64, max_history=L * 4).large_sets
