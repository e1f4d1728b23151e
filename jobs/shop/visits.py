"""Draws the visits of one day for the second generator, without a loop over users or events.

A visit starts with a wish: a leaf, and the values that the user wants. At each step the shop shows a slate, and the user takes
one item of it. Popular and recent items are shown more. There are two kinds of slates:

- Two shelves of a leaf: one of all its items, and one of those in the wished colour, at later steps in the colour of the item
  before. The leaf may change within a visit, to another one that the user likes or to one that goes with it.
- A page of a collection: of one that the user follows, or at later steps of the one that the item before belongs to.

The user prefers liked values, wished values and those of the item before.

The numbers below were chosen so that the statistics of the log lie within those of real logs (docs/results/shop.md).

Shape legend: S visits, M items on a slate, K kinds of attributes.
"""

import numpy as np
from numpy.typing import NDArray

from jobs.shop.events import Events, epoch_second, seconds_of_day, weekend_factor
from jobs.shop.hashing import hashed, uniform
from jobs.shop.intent_world import KINDS, NUM_VALUES, IntentWorld
from jobs.shop.world import OPENING_DAY

_MAX_VISITS, _MAX_LENGTH = 12, 40  # of a user on a day; events of a visit
_LENGTH, _LENGTH_SPREAD = 0.5, 1.3  # mean and spread of the logarithm of a visit's length
_PROJECT = 0.4  # chance that a visit goes on with the user's project
_COLLECTION = 0.64  # chance that a slate is a page of a collection
_OWN_PAGE = 0.45  # chance that, later in a visit, this is one that the user follows, and not the last item's
_OTHER, _COMPLEMENT = 0.6, 0.1  # chance that the leaf is another liked one, or one that goes with it
_SLATE = 32  # items shown of each of the two shelves; a page has twice as many. An item may be shown twice
_RECENCY_BOOST, _RECENCY_DAYS = 2.0, 10.0  # a new item is shown this much more at first; the boost decays at this pace
_TREND = 0.25  # spread of the logarithm of what the shop shows more in one week than in another
_TASTE, _WISH, _ALIKE = 18.0, 3.0, 3.0  # how much liked values, wished ones and those of the last item count
_TURNS, _TURN_DAYS, _HIDDEN = 2, 4, 8.0  # each user is shown half of the items for four days, then the others
_REMEMBERED, _AGAIN = 28, 0.05  # days in which an item is rarely taken again, and how often it is all the same


def visit_events(world: IntentWorld, day: int) -> Events:
    """All events of one day. They depend on the world and the day alone, so they are the same in every snapshot.

    A user has an item at most once a day. What a user chose in the four weeks before is mostly not taken again. To know it,
    the days before are drawn too, and kept in the world, so that successive days cost one draw each.
    """
    events = _drawn(world, day)
    keys = _keys(events)
    before = [_keys(_drawn(world, earlier)) for earlier in range(max(OPENING_DAY, day - _REMEMBERED), day)]
    known = np.isin(keys, np.concatenate(before)) if before else np.zeros(len(keys), dtype=bool)
    kept = ~known | (uniform(world.seed, "again", events.user, events.item, day) < _AGAIN)
    for earlier in [number for number in world.drawn if number < day - _REMEMBERED]:
        del world.drawn[earlier]
    return Events(events.user[kept], events.item[kept], events.timestamp[kept])


def _drawn(world: IntentWorld, day: int) -> Events:
    """The choices of one day, whether they were made before or not."""
    if day not in world.drawn:
        world.drawn[day] = _draw(world, day)
    return world.drawn[day]


def _keys(events: Events) -> NDArray[np.int64]:
    return (events.user << 32) + events.item


def _draw(world: IntentWorld, day: int) -> Events:
    random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([world.seed, 2, day + 1_000_000])))
    everybody = np.arange(world.num_users(day))
    rate = world.user_activity(everybody) * world.busy(everybody, day) * weekend_factor(day)
    visits = np.minimum(random.poisson(rate), _MAX_VISITS)
    users = np.flatnonzero(visits)
    row = np.repeat(np.arange(len(users)), visits[users])
    length = np.exp(_LENGTH + _LENGTH_SPREAD * random.standard_normal(len(row)))
    length = np.clip(np.round(length), 1, _MAX_LENGTH).astype(np.int64)
    taken = _walk(world, _Shelves(world, day), day, users, row, length, random)
    user, item = np.repeat(users[row], length), taken[np.arange(taken.shape[1]) < length[:, None]]
    timestamp = epoch_second(day) + seconds_of_day(length, random)
    _, first = np.unique(user * world.num_items(day) + item, return_index=True)
    first = first[np.lexsort((item[first], user[first], timestamp[first]))]
    return Events(user[first], item[first], timestamp[first])


def _walk(
    world: IntentWorld,
    shelves: "_Shelves",
    day: int,
    users: NDArray[np.int64],
    row: NDArray[np.int64],
    length: NDArray[np.int64],
    random: np.random.Generator,
) -> NDArray[np.int64]:
    """Items of each visit, [S, longest visit]; what lies behind a visit's length means nothing.

    Args:
        users: int64 [A], the users with a visit.
        row: int64 [S], place of each visit's user in `users`.
        length: int64 [S], events of each visit.
    """
    likes, liked_leaves, ends = world.likes(users), world.user_leaves(users, day), np.cumsum(world.slot_weights())[:-1]
    leaf, wish_SK = _wishes(world, day, users, row, likes, random)
    attributes = world.attributes(world.num_items(day))
    taken = np.zeros((len(row), int(length.max(initial=0))), dtype=np.int64)
    last = np.full(len(row), -1)
    collection = world.followed(users[row], random.random(len(row)))
    for step in range(taken.shape[1]):
        going = np.flatnonzero(length > step)
        here = leaf[going]
        if step:
            turn = random.random(len(going))
            other = world.complements[here, random.integers(0, 2, len(going))]
            slot = np.searchsorted(ends, random.random(len(going)), side="right")
            here = np.where(turn < _OTHER, liked_leaves[row[going], slot], np.where(turn < _OTHER + _COMPLEMENT, other, here))
        previous = last[going]
        guide_SK = np.where((previous >= 0)[:, None], attributes[previous], wish_SK[going])
        page = random.random(len(going)) < _COLLECTION
        own = random.random(len(going)) < _OWN_PAGE
        followed = world.followed(users[row[going]], random.random(len(going)))
        collection[going] = np.where(own, followed, collection[going])
        slate_SM = shelves.slate(here, guide_SK[:, 0], random)
        slate_SM[page] = shelves.page(collection[going][page], random)
        shown_SMK = attributes[slate_SM]
        score_SM = random.gumbel(size=slate_SM.shape)
        for kind in range(len(KINDS)):
            value_SM = shown_SMK[:, :, kind]
            score_SM += _TASTE * likes[row[going][:, None], kind, value_SM]
            score_SM += _WISH / len(KINDS) * (value_SM == wish_SK[going, kind][:, None])
            if step:
                score_SM += _ALIKE / len(KINDS) * (value_SM == guide_SK[:, kind][:, None])
        score_SM -= _HIDDEN * ~_in_turn(world, day, users[row[going]][:, None], slate_SM)
        for earlier in range(step):
            score_SM[slate_SM == taken[going, earlier][:, None]] = -np.inf
        item = slate_SM[np.arange(len(going)), score_SM.argmax(1)]
        by_chance = random.random(len(going)) < world.shop.noise
        taken[going, step] = np.where(by_chance, shelves.anything(len(going), random), item)
        last[going] = np.where(by_chance & (previous >= 0), previous, item)
        collection[going] = world.collection(last[going], shelves.leaf[last[going]])
    return taken


def _wishes(
    world: IntentWorld,
    day: int,
    users: NDArray[np.int64],
    row: NDArray[np.int64],
    likes: NDArray[np.float32],
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The leaf and the wished values that each visit starts with, [S] and [S, K]: those of the user's project, or new ones.

    The values are among those that the leaf offers, mostly liked ones.
    """
    ends = np.cumsum(world.slot_weights())[:-1]
    project, same = world.project(users, day)[row], random.random(len(row)) < _PROJECT
    user = users[row]
    place = np.where(same, uniform(world.seed, "project slot", user, project), random.random(len(row)))
    leaf = world.user_leaves(users, day)[row, np.searchsorted(ends, place, side="right")]
    kinds, offers_SKO = np.arange(len(KINDS)), world.offers[leaf]
    shape = offers_SKO.shape
    of_project = uniform(world.seed, "project wish", user[:, None, None], project[:, None, None], offers_SKO, kinds[:, None])
    chance_SKO = np.where(same[:, None, None], of_project, random.random(shape))
    liked_SKO = likes[row[:, None, None], kinds[:, None], offers_SKO] > 0
    best = (liked_SKO + chance_SKO).argmax(2)
    return leaf, np.take_along_axis(offers_SKO, best[:, :, None], 2)[:, :, 0]


def _in_turn(world: IntentWorld, day: int, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether it is an item's turn to be shown to a user on a day, bool, of the broadcast shape of users and items."""
    turn = (hashed(world.seed, "turn", users, items) % np.uint64(_TURNS)).astype(np.int64)
    return (day // _TURN_DAYS - turn) % _TURNS == 0


class _Shelves:
    """What the shop shows on one day: items in the order of leaf and colour, and how much each is shown."""

    def __init__(self, world: IntentWorld, day: int) -> None:
        items = np.arange(world.num_items(day))
        self.leaf = world.item_leaf(items)
        group = self.leaf * NUM_VALUES + world.attributes(len(items))[:, 0]
        age = day - world.item_born(items)
        week = np.full(len(items), (day - OPENING_DAY) // 7)
        trend = np.exp(_TREND * world.normal("trend", items, week))
        shown = world.item_popularity(items) * trend * (1 + _RECENCY_BOOST * np.exp(-age / _RECENCY_DAYS))
        self._shelf = _Shelf(group, len(world.leaves) * NUM_VALUES, shown)
        collections = world.num_categories * world.collections_per_category
        self._pages = _Shelf(world.collection(items, self.leaf), collections, shown)

    def slate(self, leaf: NDArray[np.int64], palette: NDArray[np.integer], random: np.random.Generator) -> NDArray[np.int64]:
        """Items shown, [S, M]: half of the leaf, half of the leaf in one colour. An empty shelf gives way to a larger one."""
        of_leaf = self._shelf.span(leaf * NUM_VALUES, (leaf + 1) * NUM_VALUES)
        own = self._shelf.span(leaf * NUM_VALUES + palette, leaf * NUM_VALUES + palette + 1)
        own = np.where(own[0] < own[1], own, of_leaf)
        return np.concatenate([self._shelf.some(of_leaf, _SLATE, random), self._shelf.some(own, _SLATE, random)], axis=1)

    def page(self, collection: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """Items shown on a page of each collection, [S, M]."""
        return self._pages.some(self._pages.span(collection, collection + 1), 2 * _SLATE, random)

    def anything(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Items of the whole shop by how much they are shown, [count]."""
        everything = self._shelf.span(np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64))
        return self._shelf.some(everything, 1, random)[:, 0]


class _Shelf:
    """Items in the order of their groups, so that those of successive groups are drawn by their weights without a loop.

    Args:
        group: int64 [N], 0..num_groups-1.
        num_groups: number of groups; some may be empty.
        weight: float64 [N], how often each item is drawn.
    """

    def __init__(self, group: NDArray[np.int64], num_groups: int, weight: NDArray[np.float64]) -> None:
        self._order = np.argsort(group, kind="stable")
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight[self._order])])
        self._bounds = self._cumulative[np.searchsorted(group[self._order], np.arange(num_groups + 1))]

    def span(self, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.float64]:
        """Where the groups start..stop-1 lie among the summed weights, [2, S]."""
        return np.stack([self._bounds[start], self._bounds[stop]])

    def some(self, span: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """So many items of each span, [S, count], by their weights, with replacement; of all items if the span is empty."""
        low, high = np.where(span[0] < span[1], span, np.array([[0.0], [self._cumulative[-1]]]))
        place = low[:, None] + random.random((len(low), count)) * (high - low)[:, None]
        found = np.searchsorted(self._cumulative, place, side="right") - 1
        # At the upper edge of the last group, rounding must not give a number outside the catalogue.
        return self._order[np.minimum(found, len(self._order) - 1)]
