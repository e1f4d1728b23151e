"""The hidden world of the second generator: items of a leaf differ by what one sees and reads, and users like some of it.

A leaf offers a few colours, patterns, materials and styles, and each of its items has one of each. A user likes some values
of each kind. So which item of a leaf a user chooses can be learnt from pictures and texts. Across the leaves of a category lie
collections, which nothing but the log tells of. Births, ids, leaves and categories are those of the first world.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from jobs.base.settings import ShopSettings
from jobs.shop.events import Events
from jobs.shop.hashing import hashed, uniform
from jobs.shop.vocabulary import MATERIALS, PALETTES, PATTERNS, STYLES
from jobs.shop.world import OPENING_DAY, Leaf, World

KINDS = ("palette", "pattern", "material", "style")
_SIZES = (len(PALETTES), len(PATTERNS), len(MATERIALS), len(STYLES))  # values of each kind
NUM_VALUES = max(_SIZES)
_OFFER_SHARES = np.array([0.30, 0.22, 0.17, 0.13, 0.10, 0.08])  # of a leaf's items, by the values that it offers
_LIKED = 0.2  # chance that a user likes a value
_APPEAL = 2.15  # spread of the logarithm of an item's popularity
_VISITS, _ACTIVITY = 0.11, 0.6  # visits a day of a usual user, and the spread of the logarithm between users
_BUSY, _BUSY_DAYS = 1.2, 5  # spread of the logarithm of a user's activity from one stretch of days to the next
_PROJECT_DAYS = 12  # a user comes back to the same wish for so long
_COLLECTION_SIZE = 18  # items of a collection, on average
_FOLLOWED = np.array([0.85, 0.10, 0.05])  # how a user's attention is divided among the three collections that the user follows


class IntentWorld(World):
    """All that the second generator draws from. It depends on the settings alone.

    Shape legend: N items, U users, L leaves, K kinds of attributes (palette, pattern, material, style), V values of a kind.

    Attributes:
        offers: int64 [L, K, 6], the values of each kind that the items of a leaf may have, the most frequent first.
        complements: int64 [L, 2], leaves of other categories that go with a leaf.
        collections_per_category: collections lie across the leaves of a category. Nothing that one sees or reads tells of them.
        drawn: events of days that were drawn last, kept by `visits.py`.
    """

    odd_pictures = odd_words = 0.03
    stated = 1.0
    drift_days = 84
    focus = 0.3
    slot_shares = (0.10, 0.09, 0.08, 0.08, 0.07, 0.07, 0.07, 0.06, 0.06, 0.06, 0.05, 0.05, 0.05, 0.04, 0.04, 0.03)
    category_skew, leaf_skew = 1.6, 2.0

    def __init__(self, shop: ShopSettings) -> None:
        super().__init__(shop)
        leaves = np.arange(len(self.leaves))
        rank = [
            np.argsort(uniform(self.seed, f"offers {kind}", leaves[:, None], np.arange(size)), axis=1)
            for kind, size in zip(KINDS, _SIZES, strict=True)
        ]
        self.offers = np.stack([order[:, : len(_OFFER_SHARES)] for order in rank], axis=1)
        away = 1 + hashed(self.seed, "complement", leaves[:, None], np.arange(2)) % np.uint64(self.num_categories - 1)
        category = (leaves[:, None] // self.leaves_per_category + away.astype(np.int64)) % self.num_categories
        within = uniform(self.seed, "complement leaf", leaves[:, None], np.arange(2)) * self.leaves_per_category
        self.complements = category * self.leaves_per_category + within.astype(np.int64)
        self.collections_per_category = max(2, round(shop.num_items / self.num_categories / _COLLECTION_SIZE))
        self.drawn: dict[int, Events] = {}
        self._attributes = np.empty((0, len(KINDS)), dtype=np.int8)

    def attributes(self, count: int) -> NDArray[np.int8]:
        """Value of each kind of the first items, [count, K]. They are kept, since every day needs them."""
        if len(self._attributes) < count:
            items = np.arange(count)
            self._attributes = self._values(items, self.item_leaf(items)).astype(np.int8)
        return self._attributes[:count]

    def collection(self, items: NDArray[np.int64], leaf: NDArray[np.int64]) -> NDArray[np.int64]:
        """Collection of each item of the given leaf."""
        within = uniform(self.seed, "collection", items) * self.collections_per_category
        return leaf // self.leaves_per_category * self.collections_per_category + within.astype(np.int64)

    def followed(self, users: NDArray[np.int64], chance: NDArray[np.float64]) -> NDArray[np.int64]:
        """One of the three collections that each user follows.

        Args:
            chance: float64, numbers in [0, 1) that say which one; the first is the most frequent.
        """
        choice = np.searchsorted(np.cumsum(_FOLLOWED)[:-1], chance, side="right")
        number = uniform(self.seed, "followed", users, choice) * self.collections_per_category * self.num_categories
        return number.astype(np.int64)

    def look(self, item: int, leaf: int) -> Leaf:
        """What the picture and the text of an item of the given leaf are made from: its own colour, pattern and so on."""
        if item >= len(self._attributes):  # many at once, because one alone takes as long as a thousand
            self.attributes(max(1_024, 2 * item))
        palette, pattern, material, style = self._attributes[item]
        return replace(
            self.leaves[leaf],
            palette=int(palette),
            pattern=tuple(PATTERNS)[pattern],
            material=MATERIALS[material],
            style=STYLES[style],
        )

    def likes(self, users: NDArray[np.int64]) -> NDArray[np.float32]:
        """How much each user likes each value, [U, K, V], at least 0. Liked values of a kind share one weight.

        Users differ in how much they mind each kind. The weights of the four kinds add up to 1 for each user.
        """
        kinds = np.arange(len(KINDS))
        liked = uniform(self.seed, "likes", users[:, None, None], kinds[:, None], np.arange(NUM_VALUES)) < _LIKED
        minds = np.log1p(-uniform(self.seed, "minds", users[:, None], kinds)) ** 2
        minds /= minds.sum(1, keepdims=True)
        return (liked * minds[:, :, None]).astype(np.float32)

    def item_popularity(self, items: NDArray[np.int64]) -> NDArray[np.float64]:
        """Weight of each item on the shelf before any boost: log-normal."""
        return np.exp(_APPEAL * self.normal("appeal", items))

    def user_activity(self, users: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean visits a day of each user over the long run: log-normal, at most 6."""
        return np.minimum(_VISITS * np.exp(_ACTIVITY * self.normal("activity", users)), 6.0)

    def busy(self, users: NDArray[np.int64], day: int) -> NDArray[np.float64]:
        """Factor of each user's activity on a day. It is 1 in the mean, and stays the same for a stretch of days."""
        return np.exp(_BUSY * self.normal("busy", users, self._stretch("busy", users, day, _BUSY_DAYS)) - _BUSY**2 / 2)

    def project(self, users: NDArray[np.int64], day: int) -> NDArray[np.int64]:
        """Number of the project that each user has on a day. A project is a wish that a user comes back to for some days."""
        return self._stretch("project", users, day, _PROJECT_DAYS)

    def normal(self, what: str, *keys: NDArray[np.int64]) -> NDArray[np.float64]:
        """A standard normal number for each element of the broadcast keys (Box-Muller)."""
        radius = np.sqrt(-2 * np.log1p(-uniform(self.seed, f"{what} radius", *keys)))
        return radius * np.cos(2 * np.pi * uniform(self.seed, f"{what} angle", *keys))

    def _values(self, items: NDArray[np.int64], leaf: NDArray[np.int64]) -> NDArray[np.int64]:
        kinds = np.arange(len(KINDS))
        place = np.searchsorted(np.cumsum(_OFFER_SHARES)[:-1], uniform(self.seed, "look", items[:, None], kinds), side="right")
        return self.offers[leaf[:, None], kinds, place]

    def _stretch(self, what: str, users: NDArray[np.int64], day: int, days: int) -> NDArray[np.int64]:
        phase = (hashed(self.seed, f"{what} phase", users) % np.uint64(days)).astype(np.int64)
        return (day - OPENING_DAY + phase) // days
