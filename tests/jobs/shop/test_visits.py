"""The second generator: what every generator owes a snapshot, and what its visits add."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from jobs.base.settings import ShopSettings
from jobs.shop.generators import events_of, world_of
from jobs.shop.intent_world import KINDS, IntentWorld
from jobs.shop.snapshot import write_snapshot
from jobs.shop.visits import visit_events
from jobs.shop.world import FIRST_RUN, OPENING_DAY, World

SMALL = ShopSettings(num_items=120, num_users=100, num_days=10)
NEXT = FIRST_RUN + dt.timedelta(days=1)
DAYS = range(-34, 1)


@pytest.fixture(scope="module")
def world() -> IntentWorld:
    world = world_of(ShopSettings(num_items=1000, num_users=1500))
    assert isinstance(world, IntentWorld)
    return world


@pytest.fixture(scope="module")
def events(world: IntentWorld) -> pd.DataFrame:
    """Five weeks of events up to the first run date: user, item, time, day, leaf of the item."""
    drawn = [events_of(world, day) for day in DAYS]
    parts = [
        pd.DataFrame({"user": e.user, "item": e.item, "time": e.timestamp, "day": day})
        for e, day in zip(drawn, DAYS, strict=True)
    ]
    log = pd.concat(parts, ignore_index=True)
    return log.assign(leaf=world.item_leaf(log["item"].to_numpy()))


def test_the_setting_chooses_the_generator_and_the_second_is_the_default() -> None:
    assert ShopSettings().generator == "v2"
    assert type(world_of(ShopSettings(generator="v1"))) is World
    first, second = (events_of(world_of(SMALL.model_copy(update={"generator": name})), 0) for name in ("v1", "v2"))
    assert len(first.user) and len(second.user) and first.user.tolist() != second.user.tolist()


def test_a_day_is_the_same_whatever_was_drawn_before_it(world: IntentWorld) -> None:
    alone, after = world_of(world.shop), world_of(world.shop)
    for day in (-40, -3, -20, -4):  # not in order, so that some days are kept and some are not
        events_of(after, day)
    here, there, again = (events_of(each, -3) for each in (alone, after, after))
    for part in ("user", "item", "timestamp"):
        assert getattr(here, part).tolist() == getattr(there, part).tolist() == getattr(again, part).tolist()


def test_another_seed_draws_other_events(world: IntentWorld) -> None:
    other = world_of(world.shop.model_copy(update={"seed": 1}))
    ours, theirs = events_of(world, 0), events_of(other, 0)
    assert len(set(zip(ours.user, ours.item, strict=True)) & set(zip(theirs.user, theirs.item, strict=True))) < 0.02 * len(
        ours.user
    )


def test_two_snapshots_have_the_same_columns_items_and_days_as_each_other(tmp_path: Path) -> None:
    for date in (FIRST_RUN, NEXT):
        write_snapshot(SMALL, tmp_path, date)
    write_snapshot(SMALL, tmp_path / "again", NEXT)
    read = {date: tmp_path / "source" / f"date={date}" for date in (FIRST_RUN, NEXT)}
    logs = {date: pq.read_table(folder / "interactions.parquet").to_pandas() for date, folder in read.items()}
    items = {date: pq.read_table(folder / "items.parquet").to_pandas() for date, folder in read.items()}
    assert list(logs[NEXT].columns) == ["user_id", "item_id", "timestamp"]
    assert list(items[NEXT].columns) == ["item_id", "title", "text", "image_path"]
    pd.testing.assert_frame_equal(items[FIRST_RUN], items[NEXT].head(len(items[FIRST_RUN])))
    assert len(items[NEXT]) == len(items[FIRST_RUN]) + 1
    start, end = logs[NEXT].timestamp.min(), logs[FIRST_RUN].timestamp.max()
    shared = [log[(log.timestamp >= start) & (log.timestamp <= end)].reset_index(drop=True) for log in logs.values()]
    assert len(shared[0]) > 100
    pd.testing.assert_frame_equal(*shared)
    again = tmp_path / "again" / "source" / read[NEXT].name
    assert (again / "interactions.parquet").read_bytes() == (read[NEXT] / "interactions.parquet").read_bytes()
    assert not logs[NEXT].duplicated(["user_id", "item_id", "timestamp"]).any()


def test_generators_do_not_share_pictures(tmp_path: Path) -> None:
    tiny = ShopSettings(num_items=50, num_users=20, num_days=7)
    for name in ("v1", "v2"):
        write_snapshot(tiny.model_copy(update={"generator": name}), tmp_path, FIRST_RUN)
    assert len(list((tmp_path / "source").glob("pictures-*"))) == 2


def test_nothing_happens_before_birth_and_the_first_day_has_no_days_before_it(world: IntentWorld, events: pd.DataFrame) -> None:
    assert (events.day >= world.item_born(events["item"].to_numpy())).all()
    assert (events.day >= world.user_born(events["user"].to_numpy())).all()
    assert len(visit_events(world_of(SMALL), OPENING_DAY).user)  # type: ignore[arg-type]


def test_the_items_of_a_visit_belong_together(world: IntentWorld, events: pd.DataFrame) -> None:
    events = events.sort_values(["user", "time"], kind="stable", ignore_index=True)
    follows = (events["user"] == events["user"].shift()) & (events["time"] - events["time"].shift() < 3600)
    follows &= events["day"] == events["day"].shift()
    assert 0.4 < follows.mean() < 0.9
    item = events["item"].to_numpy()
    leaf, values = events["leaf"].to_numpy(), world.attributes(world.num_items(0))[item]
    collection = world.collection(item, leaf)
    now = np.flatnonzero(follows)
    other = np.random.default_rng(0).permutation(now)  # events of other visits in the place of the one before
    for known, ratio in ((leaf, 2.0), (collection, 8.0)):
        assert (known[now] == known[now - 1]).mean() > ratio * (known[now] == known[other]).mean()
    assert (values[now] == values[now - 1]).mean() > 1.3 * (values[now] == values[other]).mean()


def test_what_a_user_chooses_within_a_leaf_follows_the_users_likes(world: IntentWorld, events: pd.DataFrame) -> None:
    def liked(users: np.ndarray, items: np.ndarray) -> float:
        who, row = np.unique(users, return_inverse=True)
        values = world.attributes(world.num_items(0))[items]
        return float(world.likes(who)[row[:, None], np.arange(len(KINDS)), values].sum(1).mean())

    users, chosen = events["user"].to_numpy(), events["item"].to_numpy()
    mates = events.groupby("leaf")["item"].transform(lambda items: items.sample(frac=1, random_state=0).to_numpy()).to_numpy()
    assert liked(users, chosen) > 1.15 * liked(users, mates)  # mates: as popular, and of the same leaf


def test_an_item_is_rarely_taken_again_within_four_weeks(events: pd.DataFrame) -> None:
    gap = events.sort_values(["user", "item", "day"]).groupby(["user", "item"])["day"].diff()
    assert gap.min() >= 1
    assert 0 < (gap <= 28).sum() / len(events) < 0.05


def test_noise_follows_no_wish(world: IntentWorld, events: pd.DataFrame) -> None:
    users = np.arange(world.num_users(0))
    today = events[events["day"] == 0]

    def inside(log: pd.DataFrame) -> float:
        return float((log["leaf"].to_numpy()[:, None] == world.user_leaves(users, 0)[log["user"]]).any(1).mean())

    noisy = world_of(world.shop.model_copy(update={"noise": 1.0}))
    drawn = events_of(noisy, 0)
    chance = pd.DataFrame({"user": drawn.user, "leaf": world.item_leaf(drawn.item)})
    assert inside(today) > 1.3 * inside(chance)


def test_users_and_items_have_long_tails(events: pd.DataFrame) -> None:
    lengths, counts = events.groupby("user").size(), events.groupby("item").size().sort_values(ascending=False)
    assert lengths.quantile(0.99) > 5 * lengths.median()
    assert counts.head(len(counts) // 10).sum() > 0.25 * len(events)
