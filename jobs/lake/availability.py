"""Which items of a date can be had: out of stock, an item stays out of every answer, but it stays in the log."""

import datetime as dt
from collections.abc import Sequence

import numpy as np

from jobs.base.places import open_dataset
from jobs.lake.tables import Lake


def available_items(lake: Lake, date: dt.date, item_ids: Sequence[str]) -> np.ndarray:
    """bool [N], whether each of some items can be had when the date ends. An item of which `stock` says nothing cannot.

    If the date has no such table, because an earlier version of this project made it, all of its items can be had.
    """
    if lake.exists("stock", date):
        stock = open_dataset(lake.path("stock", date)).to_table(columns=["item_id", "available"])
        there = stock.filter(stock["available"])["item_id"]
    else:
        there = open_dataset(lake.path("items", date)).to_table(columns=["item_id"])["item_id"]
    known = set(there.to_pylist())
    return np.fromiter((item in known for item in item_ids), bool, len(item_ids))
