"""The data contract: the tables a user brings, and the tables the pipeline keeps.

`docs/data-contract.md` is generated from this file (`python -m jobs.contract > docs/data-contract.md`) and a test compares
the two, so the page, the checks and the code cannot part.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["id", "timestamp", "float", "string", "binary"]

# What Arrow or Spark may call a column of each kind; the first word is how the page names it.
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
    """One table of the folder a user brings; `<name>.parquet` (a file or a folder of part files) or `<name>.csv`."""

    name: str
    required: bool
    meaning: str
    columns: tuple[Column, ...]


INTERACTIONS = InputTable(
    "interactions",
    True,
    "The log: one row for each positive event (a view, a purchase, a rating).",
    (
        Column("user_id", "id", True, "Who. Compared as text."),
        Column("item_id", "id", True, "What; must occur in the items table, or the row is quarantined."),
        Column(
            "timestamp",
            "timestamp",
            True,
            "When, UTC: Unix time in `data.timestamp_unit` (seconds unless set otherwise) or a timestamp type.",
        ),
        Column("rating", "float", False, "Kept out of training: every row counts as a positive."),
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
        Column("image_path", "string", False, "Picture by path (absolute, or within the folder) or URI of the source's kind."),
    ),
)
IMAGES = InputTable(
    "images",
    False,
    "Pictures apart from the catalogue. Where it exists it goes before `items.image`, and that before `items.image_path`.",
    (
        Column("item_id", "id", True, "Key of the items table."),
        Column("image", "binary", True, "Encoded picture (JPEG, PNG, WebP)."),
    ),
)
INPUT_TABLES = (INTERACTIONS, ITEMS, IMAGES)

_PAGE_HEAD = """# Data contract

Bring a folder (or the URI of one in a store) with the tables below, each as Parquet (one file or part files) or CSV with a
header, and run `make run DATA=<folder>`. Further columns are ignored. This page is generated from `jobs/contract.py`.

What stops a run, with a message that names file, column, rows and remedy: a required table or column is missing, a column
has another type, a table is empty, timestamps are in another unit than declared, the logical date has no events, there
are fewer items than clusters, or more than `data.max_rejected_fraction` of a table's rows had to be set aside.

What is set aside row by row, counted and listed in the `quarantine` table and on the report: repeated item ids, missing
ids, unknown items, repeated events, timestamps that are no time or lie in the future, users with more than
`ingest.max_events_per_user_day` events on one day. A missing or unreadable picture or text leaves that view of the item
empty; the item keeps its other views.
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
