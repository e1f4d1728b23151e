"""Which items of a date can be had: out of stock, an item stays out of every answer, but it stays in the log."""

import datetime as dt
from collections.abc import Sequence

import numpy as np

from jobs.base.places import open_dataset
from jobs.lake.tables import Lake


def available_items(lake: Lake, date: dt.date, item_ids: Sequence[str]) -> np.ndarray:
    """bool [N], whether each of some items can be had when the date ends. An item that `items` does not have cannot.

    A table of an earlier version of this project says nothing about it; then all of its items can be had.
    """
    dataset = open_dataset(lake.path("items", date))
    said = "available" in dataset.schema.names
    items = dataset.to_table(columns=["item_id", *(["available"] if said else [])])
    there = items.filter(items["available"])["item_id"] if said else items["item_id"]
    known = set(there.to_pylist())
    return np.fromiter((item in known for item in item_ids), bool, len(item_ids))
