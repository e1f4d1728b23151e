"""What landing leaves behind: for each part of a table, where its rows lie now and what was seen in them."""

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

# Why rows of a part were not landed.
NOT_WANTED, EMPTY_LIST = "where", "empty_list"


@dataclass(frozen=True)
class LandedPart:
    """One part of a table, ready for Spark.

    Attributes:
        name: the file as its owner knows it; messages and the quarantine use it.
        place: URI of the owner's file.
        uri: URI of the Parquet file that Spark reads: the owner's own, or one that was written for it.
        written: whether it was written. Such a file has the columns of the contract, and `source_file` and `source_row`.
        types: columns in use and their Spark types, in the order of the contract.
        stamp: of the owner's file when it was read; empty if nothing tells.
        digest: SHA-256 of what Spark reads.
        rows_in: rows of the owner's part, or elements of its lists if a list is exploded.
        rows: rows that were landed: `rows_in` less those that `where` leaves out.
        days: events of each UTC day, YYYY-MM-DD.
        missing: rows without a value, by column.
        told: what a person should know, one sentence each.
        source_columns: columns of the owner's part, with their types.
        samples: a few values of each column in use.
        left_out: rows that were not landed: `where` for those that the mapping does not want, `empty_list` for those that have
            no element to explode (which are not among `rows_in`).
    """

    name: str
    place: str
    uri: str
    written: bool
    types: dict[str, str]
    stamp: str
    digest: str
    rows_in: int
    rows: int
    days: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    source_columns: dict[str, str] = field(default_factory=dict)
    samples: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LandedTable:
    """All parts of one table of the contract.

    Attributes:
        place: file or folder of the table, for messages.
        parts: in the order in which rows count as earlier or later.
        left_out: files that are no data, each with the reason.
    """

    place: str
    parts: list[LandedPart]
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Rows that were landed."""
        return sum(part.rows for part in self.parts)

    @property
    def days(self) -> dict[str, int]:
        """Events of each UTC day, in order."""
        total: Counter[str] = Counter()
        for part in self.parts:
            total.update(part.days)
        return dict(sorted(total.items()))


@dataclass(frozen=True)
class Landing:
    """A source as it was landed.

    Attributes:
        folder: URI of the folder of the source; relative picture paths start there.
        tables: by name of the contract.
        mapping: all of `data.yaml`, with its defaults.
    """

    folder: str
    tables: dict[str, LandedTable]
    mapping: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """What a run's `source.json` keeps. Samples, which hold ids of users, are left out."""
        values = asdict(self)
        for table in values["tables"].values():
            for part in table["parts"]:
                part["samples"] = {name: [] for name in part["samples"]}
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Landing":
        """Inverse of `as_json`."""
        tables = {
            name: LandedTable(
                table["place"],
                [LandedPart(**part) for part in table["parts"]],
                [(path, why) for path, why in table["left_out"]],
            )
            for name, table in values["tables"].items()
        }
        return cls(values["folder"], tables, values["mapping"])

    def left_out(self) -> dict[str, dict[str, int]]:
        """Table -> reason -> rows that were not landed, as `LandedPart.left_out`; only tables that have such rows."""
        found: dict[str, dict[str, int]] = {}
        for name, table in self.tables.items():
            counts: Counter[str] = Counter()
            for part in table.parts:
                counts.update(part.left_out)
            if counts:
                found[name] = dict(sorted(counts.items()))
        return found

    def digests(self) -> dict[str, str]:
        """One digest for each table, of all that Spark reads of it."""
        return {
            f"source/{name}": hashlib.sha256("\n".join(part.digest for part in table.parts).encode()).hexdigest()
            for name, table in sorted(self.tables.items())
        }
