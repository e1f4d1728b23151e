"""Removes a user from every date of the lake's tables, and from what is left of replaced and unfinished versions.

A user's number (`user_index`) is the user's row, in every table of a date. So a user's row is never taken out of `users` and
`sequences`: it stays without an id and without events, and all other users keep their numbers. The table `users` of a date
comes last, because it alone says which number the user has. So if the work is cut short, doing it again finds what is left.
"""

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from jobs.base.places import open_dataset
from jobs.forget.parquet import Change, columns_of, dropped, replaced, rewrite_folder
from jobs.lake.tables import Lake

NOBODY = ""  # the id of a row whose user was forgotten; no source can have it, because blank ids count as missing
_USERS, _ITEMS, _LOG, _SEQUENCES, _QUARANTINE = "users", "items", "interactions", "sequences", "quarantine"
_COUNTS = ("num_train", "num_validation", "num_holdout")
_LISTS = ("item_index", "timestamp", "weight", "kind", "unwanted")  # columns of `sequences` about a user's events and dislikes


@dataclass(frozen=True)
class Done:
    """What was done to one table of a date.

    Attributes:
        rows: rows that were removed or emptied.
        withdrawn: whether the table was removed as a whole, because nobody could tell any more whose rows it holds.
    """

    rows: int
    withdrawn: bool = False


class LakeEraser:
    """Removes one user from a lake. The caller has the home alone.

    Args:
        lake: the lake.
        user_id: id of the user.
        request: name of the request, which is noted with each change. A repeat of an unfinished request has the same name.
    """

    def __init__(self, lake: Lake, user_id: str, request: str) -> None:
        self._lake, self._id, self._request = lake, user_id, request

    def dates(self) -> list[dt.date]:
        """Every date of which any table has a folder, ascending."""
        return sorted({date for table in self._lake.tables() for date in self._lake.begun_dates(table)})

    def erase(self, date: dt.date, noted: Callable[[str, Done], None]) -> None:
        """Remove the user from all tables of a date.

        Args:
            date: the date.
            noted: called after each table in which something was done, with its name.
        """
        there = [table for table in self._lake.tables() if date in self._lake.begun_dates(table)]
        index = self._index(date) if _USERS in there else None
        for table in sorted(there, key=lambda name: (name == _USERS, name != _ITEMS, name)):
            if not self._lake.exists(table, date):
                self._lake.remove_others(table, date)  # a first version that was never finished
                continue
            columns = columns_of(self._lake.path(table, date))
            names_users = bool({"user_id", "user_index"} & columns) or table == _QUARANTINE
            if not names_users and table != _ITEMS:
                continue
            if not self._belongs(table, date, columns):
                self._lake.withdraw(table, date)
                noted(table, Done(0, withdrawn=True))
                continue
            change = self._change(table, date, columns, index)
            rows = self._rewrite(table, date, change) if change is not None else 0
            if names_users:
                self._lake.remove_others(table, date)
            if rows and table != _ITEMS:
                noted(table, Done(rows))

    def _index(self, date: dt.date) -> int | None:
        """The number of the user on a date; None if the date does not know the user."""
        if not self._lake.exists(_USERS, date):
            return None
        dataset = open_dataset(self._lake.path(_USERS, date))
        found = dataset.to_table(columns=["user_index"], filter=pads.field("user_id") == self._id)
        return found["user_index"][0].as_py() if found.num_rows else None

    def _change(self, table: str, date: dt.date, columns: set[str], index: int | None) -> Change | None:
        """What has to be done to a table's row groups; None for nothing."""
        if table == _QUARANTINE:
            return _set_aside(self._id)
        if table == _USERS:
            unknown = {"user_id": NOBODY} | dict.fromkeys(_COUNTS, 0)
            return Change("user_id", self._id, replaced(unknown | dict.fromkeys({"attributes"} & columns)))
        if table == _ITEMS:
            return None if index is None else self._popularity(date, index)
        if "user_id" in columns:
            return Change("user_id", self._id, dropped)
        if index is None:
            return None
        if table == _SEQUENCES:
            empty: dict[str, Any] = (
                dict.fromkeys(_LISTS, []) | dict.fromkeys((*_COUNTS, "num_history_only"), 0) | {"features": None}
            )
            return Change("user_index", index, replaced(empty))
        return Change("user_index", index, dropped)

    def _popularity(self, date: dt.date, index: int) -> Change | None:
        """Items count their training events. Those of the user are taken off."""
        if not self._lake.exists(_LOG, date):
            return None
        log = open_dataset(self._lake.path(_LOG, date))
        if not {"split", "user_index"} <= set(log.schema.names):
            return None
        mine = (pads.field("user_index") == index) & (pads.field("split") == "train")
        counts = Counter(log.to_table(columns=["item_index"], filter=mine)["item_index"].to_pylist())

        def less(rows: pa.Table) -> pa.Table:
            taken = np.array([counts[item] for item in rows["item_index"].to_pylist()], np.int64)
            place = rows.schema.get_field_index("num_train")
            field = rows.schema.field(place)
            left = pc.subtract(rows["num_train"], pa.array(taken)).cast(field.type)
            return rows.set_column(place, field, left)

        return Change("item_index", sorted(counts), less) if counts else None

    def _rewrite(self, table: str, date: dt.date, change: Change) -> int:
        if self._is_done(table, date) or not (rows := change.count(self._lake.path(table, date))):
            return 0
        with self._lake.rewrite(table, date, why="a user was forgotten", request=self._request) as (before, pending):
            rewrite_folder(before, pending.path, change)
        return rows

    def _is_done(self, table: str, date: dt.date) -> bool:
        """Whether this request has rewritten the version in force. To take events off a count twice would be once too often."""
        return any(change.get("request") == self._request for change in self._lake.manifest(table, date).get("rewritten", ()))

    def _belongs(self, table: str, date: dt.date, columns: set[str]) -> bool:
        """Whether a table that numbers users has the numbers of the table `users` that is in force.

        After a run that stopped half-way it may have those of an earlier one. Then nobody knows which of its rows are whose.
        """
        if table in (_USERS, _ITEMS, _QUARANTINE) or "user_id" in columns:
            return True
        lake, inputs = self._lake, self._lake.manifest(table, date)["inputs"]
        if not lake.exists(_USERS, date):
            return False
        if table == _LOG:
            users = open_dataset(lake.path(_USERS, date))
            if not set(_COUNTS) <= set(users.schema.names):
                return True
            events = sum(pc.sum(column).as_py() or 0 for column in users.to_table(columns=list(_COUNTS)).columns)
            return self._is_done(_LOG, date) or events == self._events(date)
        # What was made from `sequences` has the numbers that `sequences` has, which has those of `users`.
        for source in {_USERS, _SEQUENCES} & inputs.keys():
            if inputs[source] not in self._digests(source, date):
                return False
        return _SEQUENCES not in inputs or self._belongs(_SEQUENCES, date, columns)

    def _events(self, date: dt.date) -> int:
        """Rows of the log that users count; a row of an item that a user does not want is in no split."""
        log = open_dataset(self._lake.path(_LOG, date))
        splits = [name.removeprefix("num_") for name in _COUNTS]
        return log.count_rows(filter=pads.field("split").isin(splits) if "split" in log.schema.names else None)

    def _digests(self, table: str, date: dt.date) -> set[str]:
        """The digest of a table in force, and those that it had before users were forgotten."""
        if not self._lake.exists(table, date):
            return set()
        manifest = self._lake.manifest(table, date)
        return {manifest["digest"], *(change["digest_before"] for change in manifest.get("rewritten", ()))}


def knows(lake: Lake, user_id: str) -> bool:
    """Whether the users or the quarantine of any date name a user."""
    for table, change in ((_USERS, Change("user_id", user_id, dropped)), (_QUARANTINE, _set_aside(user_id))):
        if any(change.count(lake.path(table, date)) for date in lake.dates(table)):
            return True
    return False


def _set_aside(user_id: str) -> Change:
    """The rows of the quarantine that name the user, and not an item of the same id: those are about other people's events."""
    return Change("value", user_id, dropped, where=("column", "user_id"))
