"""Draws the interactions of one day, without a loop over users or events."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.shop.world import FIRST_RUN, World

DAY_SECONDS = 86_400
_EPOCH = np.datetime64("1970-01-01")
# Share of a day's visits that start in each hour, UTC: quiet nights, a small peak at lunch, a large one in the evening.
_HOURS = np.array([2, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 5, 7, 6, 5, 5, 5, 6, 8, 10, 11, 10, 7, 4], dtype=float)
_WEEKEND = 1.25  # visits on Saturday and Sunday, as a multiple of other days
_RECENCY_BOOST, _RECENCY_DAYS = 4.0, 5.0  # a new item starts this much above its weight; the boost decays at this pace
_MEAN_PAUSE = 150.0  # seconds between two events of one visit


@dataclass(frozen=True)
class Events:
    """E events, sorted by time. user, item: numbers, int64 [E]; timestamp: Unix seconds, int64 [E]."""

    user: NDArray[np.int64]
    item: NDArray[np.int64]
    timestamp: NDArray[np.int64]


def day_events(world: World, day: int) -> Events:
    """All events of one day. They depend on the world and the day alone, so they are the same in every snapshot.

    Each user makes a Poisson number of events. An event follows the user's taste (a slot by `slot_weights`, then an item
    of its leaf by popularity). With probability `noise`, it follows popularity alone. A user has an item at most once a day.
    """
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([world.seed, day + 1_000_000])))
    users = np.arange(world.num_users(day))
    counts = random.poisson(world.user_activity(users) * weekend_factor(day))
    user = np.repeat(users, counts)
    leaves = world.user_leaves(users, day)
    slot = np.searchsorted(np.cumsum(world.slot_weights())[:-1], random.random(len(user)), side="right")
    item = _draw_items(world, day, leaves[user, slot], random)
    timestamp = epoch_second(day) + seconds_of_day(counts, random)
    _, first = np.unique(user * world.num_items(day) + item, return_index=True)
    first = first[np.lexsort((item[first], user[first], timestamp[first]))]
    return Events(user[first], item[first], timestamp[first])


def weekend_factor(day: int) -> float:
    """Visits of a day as a multiple of those of a working day."""
    return _WEEKEND if _epoch_day(day) % 7 in (2, 3) else 1.0  # 1970-01-01 was a Thursday


def epoch_second(day: int) -> int:
    """Unix time at which a day begins."""
    return _epoch_day(day) * DAY_SECONDS


def seconds_of_day(counts: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """Second of the day of each event, int64 [E], for visits with so many events each, with pauses between them."""
    hour_ends = np.cumsum(_HOURS) / _HOURS.sum()
    start = np.interp(random.random(len(counts)), np.concatenate([[0.0], hour_ends]), np.arange(25) * 3600.0)
    pauses = random.exponential(_MEAN_PAUSE, counts.sum())
    passed = np.concatenate([[0.0], np.cumsum(pauses)])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    since_start = passed[1:] - np.repeat(passed[offsets[:-1]], counts)
    return np.minimum(np.repeat(start, counts) + since_start, DAY_SECONDS - 1).astype(np.int64)


def _epoch_day(day: int) -> int:
    return int((np.datetime64(FIRST_RUN) + day - _EPOCH).astype(np.int64))


def _draw_items(world: World, day: int, leaf: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    """One item for each event: of its leaf, or of the whole catalogue for noise and for leaves that have no item yet."""
    items = np.arange(world.num_items(day))
    item_leaf = world.item_leaf(items)
    age = day - world.item_born(items)
    weight = world.item_popularity(items) * (1 + _RECENCY_BOOST * np.exp(-age / _RECENCY_DAYS))
    order = np.argsort(item_leaf, kind="stable")
    cumulative = np.concatenate([[0.0], np.cumsum(weight[order])])
    bounds = np.searchsorted(item_leaf[order], np.arange(len(world.leaves) + 1))
    low, high = cumulative[bounds[leaf]], cumulative[bounds[leaf + 1]]
    anywhere = (random.random(len(leaf)) < world.shop.noise) | (bounds[leaf] == bounds[leaf + 1])
    low, high = np.where(anywhere, 0.0, low), np.where(anywhere, cumulative[-1], high)
    place = np.searchsorted(cumulative, low + random.random(len(leaf)) * (high - low), side="right") - 1
    # At the upper edge of the last leaf, rounding must not give a number outside the catalogue.
    return order[np.minimum(place, len(order) - 1)]
