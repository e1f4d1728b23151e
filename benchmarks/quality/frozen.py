"""The shops that quality is measured on.

Sizes, seeds and noise levels were fixed before any method was tuned or measured on them, and are never changed to favour one.
A change would make another data set, which needs another name and new measurements of every result.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Shop:
    """One embedded shop.

    Attributes:
        num_items: items on the last day.
        num_users: users on the last day.
        num_days: days of events; the last two are the hold-out, the two before them validation.
        noise: share of events that follow popularity alone, without taste.
        seed: seed of the hidden world. Shops that differ only in noise share every item, picture, text, user and taste.
        generator: which generator draws it, as in the setting `shop.generator`.
    """

    num_items: int
    num_users: int
    num_days: int
    noise: float = 0.15
    seed: int = 2025
    generator: Literal["v1", "v2"] = "v1"


HOLDOUT_DAYS = 2
VALIDATION_DAYS = 2

SHOPS = {
    "quick": Shop(3_000, 2_000, 14),
    "shop-100k-low": Shop(100_000, 20_000, 20, noise=0.05),
    "shop-100k-mid": Shop(100_000, 20_000, 20, noise=0.15),
    "shop-100k-high": Shop(100_000, 20_000, 20, noise=0.35),
    "shop-1m": Shop(1_000_000, 100_000, 14),
    "shop2-quick": Shop(3_000, 4_000, 35, generator="v2"),
    "shop2-100k": Shop(100_000, 40_000, 35, generator="v2"),
    "shop2-1m": Shop(1_000_000, 200_000, 28, generator="v2"),
}


def is_large_shop(name: str) -> bool:
    """Whether a data set is one of the shops by which large catalogues are judged; the quick ones are not."""
    return name in SHOPS and name not in ("quick", "shop2-quick")
