"""The data contract: the tables a user brings, and the tables the pipeline keeps.

`docs/data-contract.md` is generated from this file (`python -m jobs.source.contract > docs/data-contract.md`), and a test
compares the two, so that the page and the checks always agree.
"""

from dataclasses import dataclass
from typing import Literal

UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}  # of a numeric timestamp

Kind = Literal["id", "timestamp", "float", "string", "binary"]

# The types that Arrow or Spark may name for a column of each kind. Messages advise the first one.
ACCEPTED: dict[Kind, tuple[str, ...]] = {
    "id": ("string", "tinyint", "smallint", "int", "bigint"),
    "timestamp": ("bigint", "int", "double", "timestamp", "timestamp_ntz"),
    "float": ("float", "double", "int", "bigint", "tinyint", "smallint", "decimal"),
    "string": ("string",),
    "binary": ("binary",),
}


@dataclass(frozen=True)
class Column:
    """One column of an input table."""

    name: str
    kind: Kind
    required: bool
    meaning: str


@dataclass(frozen=True)
class InputTable:
    """One table of the folder that a user brings: `<name>.parquet` (a file or a folder of part files) or `<name>.csv`."""

    name: str
    required: bool
    meaning: str
    columns: tuple[Column, ...]


INTERACTIONS = InputTable(
    "interactions",
    True,
    "The log: one row for each positive event (a view, a purchase, a rating).",
    (
        Column("user_id", "id", True, "The user. Ids are compared as text."),
        Column("item_id", "id", True, "The item. It must occur in the items table, or the row is quarantined."),
        Column(
            "timestamp",
            "timestamp",
            True,
            "The time in UTC: Unix time in `data.timestamp_unit` (seconds unless set otherwise) or a timestamp type.",
        ),
        Column("rating", "float", False, "Not used in training: every row counts as a positive."),
    ),
)
ITEMS = InputTable(
    "items",
    True,
    "The catalogue: one row for each item that can be recommended.",
    (
        Column("item_id", "id", True, "Unique key. A repeated key keeps its first row; the others are quarantined."),
        Column("title", "string", False, "Short name; part of the textual view and of the report."),
        Column("text", "string", False, "Description; part of the textual view."),
        Column("image", "binary", False, "Encoded picture (JPEG, PNG, WebP)."),
        Column(
            "image_path", "string", False, "Path (absolute, or within the folder) or URI (of the source's kind) of the picture."
        ),
    ),
)
IMAGES = InputTable(
    "images",
    False,
    "Pictures apart from the catalogue. If it exists, it is used instead of `items.image`, which in turn is used instead of "
    "`items.image_path`.",
    (
        Column("item_id", "id", True, "Key of the items table."),
        Column("image", "binary", True, "Encoded picture (JPEG, PNG, WebP)."),
    ),
)
INPUT_TABLES = (INTERACTIONS, ITEMS, IMAGES)

_PAGE_HEAD = """# Data contract

Bring a folder with the tables below, or the URI of such a folder in a store. Each table is Parquet (one file or part files)
or CSV with a header. Then run `make run DATA=<folder>`. Further columns are ignored. This page is generated from
`jobs/source/contract.py`.

These faults stop a run, with a message that names file, column and rows and says what to do:

- a required table or column is missing, a column has another type, or a table is empty;
- timestamps are in another unit than declared, or the logical date has no events;
- there are fewer items than clusters;
- more than `data.max_rejected_fraction` of a table's rows had to be set aside.

These rows are set aside one by one. They are counted, and listed in the table `quarantine` and on the report:

- repeated item ids, missing ids, unknown items and repeated events;
- timestamps that are not a time or lie in the future;
- all events of a user who has more than `ingest.max_events_per_user_day` events on one day.

If a picture or a text is missing or cannot be read, that view of the item is empty, and the item keeps its other views.
"""


def page() -> str:
    """The text of `docs/data-contract.md`."""
    lines = [_PAGE_HEAD]
    for table in INPUT_TABLES:
        need = "required" if table.required else "optional"
        lines += [f"\n## `{table.name}` ({need})\n", table.meaning, ""]
        lines += ["| column | type | needed | meaning |", "|---|---|---|---|"]
        for column in table.columns:
            needed = "required" if column.required else "optional"
            lines.append(f"| `{column.name}` | {' or '.join(ACCEPTED[column.kind])} | {needed} | {column.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
