"""The data contract: the tables a user brings, and what the pipeline takes from each column.

`docs/data-contract.md` is generated from this file and from `mapping.py` (`python -m jobs.landing.contract_page >
docs/data-contract.md`), and a test compares them, so that the page and the checks always agree.
"""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

_SECOND = 1_000_000_000
# The units of a numeric time, in nanoseconds.
NANOSECONDS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": _SECOND}
NANOSECONDS |= {"min": 60 * _SECOND, "h": 3_600 * _SECOND, "d": 86_400 * _SECOND}

AttributeKind = Literal["text", "texts", "number", "embedding"]
Kind = Literal["id", "timestamp", "number", "flag", "text", "texts", "embedding", "binary"]

# The type that a column of each kind has once it is landed. Times are Unix seconds in UTC.
LANDED: dict[Kind, pa.DataType] = {
    "id": pa.string(),
    "timestamp": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "text": pa.string(),
    "texts": pa.list_(pa.string()),
    "embedding": pa.list_(pa.float32()),
    "binary": pa.binary(),
}
SPARK: dict[Kind, str] = {
    "id": "string",
    "timestamp": "bigint",
    "number": "double",
    "flag": "boolean",
    "text": "string",
    "texts": "array<string>",
    "embedding": "array<float>",
    "binary": "binary",
}
# What may stand in a column of each kind, for the page and for messages.
ACCEPTED: dict[Kind, str] = {
    "id": "text or whole numbers",
    "timestamp": "a timestamp, a date, Unix time, or a text such as 2026-01-28 10:30:00",
    "number": "a number",
    "flag": "true or false, or a number",
    "text": "text, or a list of texts",
    "texts": 'a list of texts, or a text such as DE|AT or ["DE", "AT"]',
    "embedding": "a list of numbers, or a text such as [0.5, -1.25]",
    "binary": "bytes",
}


@dataclass(frozen=True)
class Column:
    """One column of an input table. `instead` names a column that may stand for a required one."""

    name: str
    kind: Kind
    required: bool
    meaning: str
    instead: str = ""


@dataclass(frozen=True)
class InputTable:
    """One table of the folder that a user brings."""

    name: str
    required: bool
    meaning: str
    columns: tuple[Column, ...]


INTERACTIONS = InputTable(
    "interactions",
    True,
    "The log: one row for each event (a view, a purchase, a rating).",
    (
        Column("user_id", "id", True, "The user. Ids are compared as text. A `session_id` may stand for it.", "session_id"),
        Column("item_id", "id", True, "The item. It must occur in the items table, or the row is quarantined."),
        Column(
            "timestamp",
            "timestamp",
            True,
            "The time, in UTC unless `timezone` says otherwise. Numbers are Unix time in `data.timestamp_unit`, or count from "
            "`timestamp_origin`.",
        ),
        Column(
            "session_id",
            "id",
            False,
            "The session. It stands for the user where there is none; a session with a known user belongs to that user.",
        ),
        Column("kind", "text", False, "What happened (view, purchase, ...). `kinds` in `data.yaml` says what each kind means."),
        Column(
            "rating", "number", False, "How the user rated the item. Unused unless `rating` in `data.yaml` says what it means."
        ),
    ),
)
ITEMS = InputTable(
    "items",
    True,
    "The catalogue: one row for each item that can be recommended.",
    (
        Column("item_id", "id", True, "Unique key. A repeated key keeps its first row; the others are quarantined."),
        Column("title", "text", False, "Short name; part of the textual view and of the report."),
        Column("text", "text", False, "Description; part of the textual view."),
        Column("image", "binary", False, "Encoded picture (JPEG, PNG, WebP)."),
        Column(
            "image_path",
            "text",
            False,
            "Path (absolute, or within the folder), URI (of the source's kind) or URL of a picture.",
        ),
        Column(
            "image_paths",
            "texts",
            False,
            "Paths, URIs or URLs of several pictures. `image_path` comes before them, if both are given.",
        ),
        Column(
            "available",
            "flag",
            False,
            "Whether the item can be had: true or false, or words such as `in stock` and `out_of_stock`. A number is the "
            "stock: with more than 0 the item can be had, with 0 or less it cannot. An item that cannot be had when the "
            "logical date ends is in no answer, but it stays in histories, training and evaluation. Without a value, it can "
            "be had.",
        ),
        Column("available_from", "timestamp", False, "The first moment at which the item can be had."),
        Column("available_until", "timestamp", False, "The first moment at which the item cannot be had any more."),
    ),
)
IMAGES = InputTable(
    "images",
    False,
    "Pictures apart from the catalogue, a row each; an item may have several. Its pictures here are used instead of "
    "`items.image`, which in turn is used instead of `items.image_path` and `items.image_paths`.",
    (
        Column("item_id", "id", True, "Key of the items table."),
        Column("image", "binary", True, "Encoded picture (JPEG, PNG, WebP). An `image_path` may stand for it.", "image_path"),
        Column("image_path", "text", False, "Path, URI or URL of the picture, as in `items`."),
    ),
)
USERS = InputTable(
    "users",
    False,
    "What is known of users beside their events. It is read if `attributes` in `data.yaml` name columns of it. Without it, "
    "users are known by their events alone.",
    (Column("user_id", "id", True, "The user, as in `interactions`. A repeated key keeps its first row."),),
)
PICTURES = ("image", "image_path", "image_paths")  # a column of a table is one of these, whatever its name
INPUT_TABLES = (INTERACTIONS, ITEMS, IMAGES, USERS)
