"""What the files of a source hold, in sentences: which were read, rows, span of time, columns with types and samples."""

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.landing.contract import INPUT_TABLES
from jobs.landing.finding import first_part
from jobs.landing.mapping import DataMapping
from jobs.landing.part_reader import first_values
from jobs.landing.records import LandedTable, Landing
from jobs.landing.times import shown

_SHOWN_FILES, _SHOWN_COLUMNS, _SHOWN_LETTERS = 5, 12, 30
UNTYPED = ("text", "JSON")  # what landing says of columns of CSV and JSON
_TIMES = ("timestamp", "available_from", "available_until")
_WORDS = {"string": "text", "double": "number", "boolean": "true or false", "binary": "bytes", "array<string>": "texts"}


def of_files(landing: Landing) -> dict[str, list[str]]:
    """For each table: which files were read and which were not, rows, columns with samples, and what landing noticed."""
    return {name: list(_of_table(table, _types(landing, name))) for name, table in landing.tables.items()}


def _of_table(table: LandedTable, own: dict[str, str]) -> Iterator[str]:
    names = [part.name for part in table.parts]
    more = f" and {len(names) - _SHOWN_FILES} more" if len(names) > _SHOWN_FILES else ""
    written = sum(part.written for part in table.parts)
    how = (
        "as they are" if not written else "and brought to the contract's form" if written == len(names) else "partly converted"
    )
    yield f"read {how}: {', '.join(names[:_SHOWN_FILES])}{more}."
    if table.left_out:
        named = "; ".join(f"{name} ({why})" for name, why in table.left_out[:_SHOWN_FILES])
        yield f"left out {len(table.left_out)}: {named}."
    rows_in = sum(part.rows_in for part in table.parts)
    yield f"{table.rows:,} rows" + (f" of {rows_in:,}; the mapping leaves out the others." if rows_in != table.rows else ".")
    if table.days:
        first, last = min(table.days), max(table.days)
        yield f"times from {first} to {last}, {sum(table.days.values()) // len(table.days):,} events on a day that has any."
    samples: dict[str, list[str]] = {}
    missing: Counter[str] = Counter()
    for part in table.parts:
        missing.update(part.missing)
        for name, values in part.samples.items():
            samples.setdefault(name, values or [])
    for name, values in samples.items():
        texts = (shown(int(value)) if name in _TIMES else value[:_SHOWN_LETTERS] for value in values)
        some = ", ".join(map(repr, texts)) or "no value"
        kind = "time" if name in _TIMES else _WORDS.get(landed := table.parts[0].types.get(name, ""), landed)
        yield f"{name} ({kind}): {some}; {missing[name] / max(table.rows, 1):.1%} missing."
    if own:
        listed = ", ".join(f"{name} ({kind})" for name, kind in list(own.items())[:_SHOWN_COLUMNS])
        yield f"columns of the first file: {listed}{', ...' if len(own) > _SHOWN_COLUMNS else ''}."
    for part in table.parts:
        yield from (f"{part.name}: {sentence}" for sentence in part.told)


def _types(landing: Landing, name: str) -> dict[str, str]:
    """The columns of a table's first file, with their types. CSV and JSON have none, so there the first rows tell them."""
    types = landing.tables[name].parts[0].source_columns
    untyped = [column for column, kind in types.items() if kind in UNTYPED]
    if untyped:
        with suppress(DataError):  # its fault lies further down, and landing has told it
            table = next(table for table in INPUT_TABLES if table.name == name)
            mapping = DataMapping.model_validate(landing.mapping).of(table)[0]
            part = first_part(place(landing.folder), table, mapping)
            values = first_values(part, mapping, *untyped) if part else {}
            types = types | {column: inferred(some) for column, some in values.items()}
    return types


def inferred(values: list[Any]) -> str:
    """What the values of a column of CSV or JSON look like: `integer`, `number`, `true or false`, `time`, `text` and others."""
    kinds = {_kind(value) for value in values} - {""}
    if kinds == {"integer", "number"}:
        return "number"
    return kinds.pop() if len(kinds) == 1 else "no value" if not kinds else "mixed" if kinds & {"list", "object"} else "text"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, list | dict):
        return "list" if isinstance(value, list) else "object"
    text = str(value).strip()
    if not text or text.lower() in ("nan", "none", "null"):
        return ""
    if re.fullmatch(r"[+-]?\d+", text):
        return "integer"
    if text.lower() in ("true", "false", "yes", "no"):
        return "true or false"
    with suppress(ValueError):
        return "number" if math.isfinite(float(text)) else "text"
    with suppress(ValueError):
        dt.datetime.fromisoformat(text.removesuffix(" UTC"))
        return "time"
    return "text"
