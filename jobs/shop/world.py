"""The hidden world behind the shop: its hierarchy, items, users and their drifting tastes.

Days are counted from `FIRST_RUN`: day 0 is the first run date, and earlier days are negative. Items and users are numbered in
the order of their birth. So those of a day are always the first ones, and the next day only adds to them.
"""

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.base.settings import ShopSettings
from jobs.shop.hashing import hashed, uniform
from jobs.shop.vocabulary import CATEGORIES, MATERIALS, PALETTES, PATTERNS, STYLES, SYLLABLES

FIRST_RUN = dt.date(2026, 1, 28)
OPENING_DAY = -400  # the older half of the items and of the users are there from this day on
DRIFT_DAYS = 14

_NEW_ITEMS, _NEW_USERS = 0.003, 0.005  # born each day if the shop grows, as a share of the number on the first run date


@dataclass(frozen=True)
class Leaf:
    """What the items of one leaf of the hierarchy have in common."""

    category: int
    palette: int
    pattern: str
    material: tuple[str, ...]
    style: tuple[str, ...]
    line: str
    """Name of the product line, a word that no other leaf uses often."""
    aspect: float
    """Width of the silhouette, as a multiple of its usual width."""


class World:
    """All that the shop's data is drawn from. It depends on the settings alone.

    Attributes:
        leaves: the leaves of the hierarchy, category by category.
        leaves_per_category: grows slowly with the size of the catalogue.
        drift_days: days after which one of a user's leaves is replaced.
        focus: chance that a leaf that a user likes lies in the user's focus category.
        slot_shares: how a user's interest is divided among the leaves that the user likes.
        category_skew, leaf_skew: at 1, users like all categories, and all leaves of a category, equally often; the more it is
            above, the more often the first ones.
        odd_words: chance that a word of a text says what another item is like.
        stated: share of the texts that end with a list of the item's colour, pattern, material and style.
        odd_pictures: share of the items that are pictured in another colour than `look` says, and in another pattern.
    """

    odd_pictures = 0.10
    drift_days = DRIFT_DAYS
    focus = 0.8
    slot_shares: tuple[float, ...] = (0.32, 0.24, 0.19, 0.14, 0.11)
    category_skew = leaf_skew = 1.0
    odd_words = 0.08
    stated = 0.0

    def __init__(self, shop: ShopSettings) -> None:
        self.shop, self.seed = shop, shop.seed
        self.num_categories = len(CATEGORIES) if shop.num_items >= 500 else 6
        # 8 at 3,000 items, 27 at 100,000, 61 at 1,000,000: leaves grow in number and in size.
        self.leaves_per_category = max(3, round(8 * (shop.num_items / 3000) ** 0.35))
        self.leaves = tuple(
            self._leaf(category, place) for category in range(self.num_categories) for place in range(self.leaves_per_category)
        )
        self._new_items = max(1, round(_NEW_ITEMS * shop.num_items)) if shop.grows else 0
        self._new_users = max(1, round(_NEW_USERS * shop.num_users)) if shop.grows else 0

    def num_items(self, day: int) -> int:
        """Number of items born by the end of a day."""
        return _population(self.shop.num_items, self._new_items, day)

    def num_users(self, day: int) -> int:
        """Number of users born by the end of a day."""
        return _population(self.shop.num_users, self._new_users, day)

    def item_born(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Day on which each item number is born."""
        return _born(items, self.shop.num_items, self._new_items)

    def user_born(self, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Day on which each user number is born."""
        return _born(users, self.shop.num_users, self._new_users)

    def item_leaf(self, items: NDArray[np.int64]) -> NDArray[np.int64]:
        """Leaf of each item. Large and small leaves differ by about a factor of three."""
        share = 0.5 + uniform(self.seed, "leaf size", np.arange(len(self.leaves)))
        return np.searchsorted(np.cumsum(share / share.sum())[:-1], uniform(self.seed, "item leaf", items), side="right")

    def look(self, item: int, leaf: int) -> Leaf:
        """What the picture and the text of an item of the given leaf are made from: here, what all its items share."""
        return self.leaves[leaf]

    def item_popularity(self, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weight of each item before any recency boost: Pareto with exponent 1.1, capped at 50 times the least."""
        return np.minimum((1 - uniform(self.seed, "item popularity", items)) ** (-1 / 1.1), 50.0)

    def user_activity(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean events a day of each user: log-normal (Box-Muller) around 1.15, at most 12."""
        radius = np.sqrt(-2 * np.log1p(-uniform(self.seed, "activity radius", users)))
        normal = radius * np.cos(2 * np.pi * uniform(self.seed, "activity angle", users))
        return np.minimum(1.15 * np.exp(0.55 * normal), 12.0)

    def user_leaves(self, users: NDArray[np.int64], day: int) -> NDArray[np.int64]:
        """Leaves that each user likes on a day, [U, slots], from the most to the least liked. A leaf may fill two slots.

        Every `drift_days` days, on different days for different users, the next slot in turn gets another leaf.
        """
        slots = np.arange(len(self.slot_shares))
        phase = (hashed(self.seed, "drift phase", users) % np.uint64(self.drift_days)).astype(np.int64)
        period = (day - OPENING_DAY + phase) // self.drift_days
        refills = (period[:, None] - slots) // len(slots)
        focus = (uniform(self.seed, "focus", users) ** self.category_skew * self.num_categories).astype(np.int64)
        keys = (users[:, None], slots, refills)
        anywhere = (uniform(self.seed, "taste anywhere", *keys) * len(self.leaves)).astype(np.int64)
        within = (uniform(self.seed, "taste within", *keys) ** self.leaf_skew * self.leaves_per_category).astype(np.int64)
        focused = uniform(self.seed, "taste focus", *keys) < self.focus
        return np.where(focused, focus[:, None] * self.leaves_per_category + within, anywhere)

    @classmethod
    def slot_weights(cls) -> NDArray[np.float64]:
        """Share of the events by a user's taste that goes to each slot of `user_leaves`, [slots]."""
        return np.array(cls.slot_shares)

    def item_ids(self, items: NDArray[np.int64]) -> NDArray[np.str_]:
        """Public ids; their order as text is the order of the numbers."""
        return np.char.mod(f"i%0{_digits(self.shop.num_items)}d", items)

    def user_ids(self, users: NDArray[np.int64]) -> NDArray[np.str_]:
        """Public ids; their order as text is the order of the numbers."""
        return np.char.mod(f"u%0{_digits(self.shop.num_users)}d", users)

    def _leaf(self, category: int, place: int) -> Leaf:
        def pick(what: str, size: int) -> int:
            return int(hashed(self.seed, what, category, place)[0] % np.uint64(size))

        # Palette and pattern both change from leaf to leaf, so that neighbours differ in both as long as there are enough.
        start = int(hashed(self.seed, "palette start", category)[0] % np.uint64(len(PALETTES)))
        patterns = tuple(PATTERNS)
        line = "".join(SYLLABLES[pick(f"syllable {part}", len(SYLLABLES))] for part in range(3))
        return Leaf(
            category=category,
            palette=(start + place * 3) % len(PALETTES),
            pattern=patterns[(place + place // len(patterns) + category) % len(patterns)],
            material=MATERIALS[pick("material", len(MATERIALS))],
            style=STYLES[pick("style", len(STYLES))],
            line=line,
            aspect=0.82 + 0.36 * pick("aspect", 100) / 99,
        )


def day_of(date: dt.date) -> int:
    """Number of a date, counted from the first run date."""
    return (date - FIRST_RUN).days


def date_of(day: int) -> dt.date:
    """Inverse of `day_of`."""
    return FIRST_RUN + dt.timedelta(days=day)


def _population(base: int, per_day: int, day: int) -> int:
    if not per_day:
        return base
    return max(base + per_day * day, base - base // 2)


def _born(numbers: NDArray[np.int64], base: int, per_day: int) -> NDArray[np.int64]:
    if not per_day:
        return np.full_like(numbers, OPENING_DAY)
    day = -((base - 1 - numbers) // per_day)
    return np.where(numbers < base - base // 2, OPENING_DAY, day)


def _digits(base: int) -> int:
    return 6 if base <= 200_000 else 8
