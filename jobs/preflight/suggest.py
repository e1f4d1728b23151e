"""Names what else the tables hold, as lines of a `data.yaml` that are comments until a person wants them."""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from upath import UPath

from jobs.base.errors import DataError
from jobs.landing.contract import INTERACTIONS, ITEMS, USERS, InputTable
from jobs.landing.finding import first_part
from jobs.landing.mapping import DataMapping
from jobs.landing.part_reader import first_values, part_columns
from jobs.landing.table_mapping import PLAIN_NAME, TableMapping
from jobs.preflight.files import UNTYPED, inferred
from jobs.preflight.guess import as_values

_NO_ATTRIBUTE = re.compile(r"(^|_)(id|ids|url|urls|link|uri|path|date|time|at)$", re.IGNORECASE)
# It tells who a user is, and nothing of the taste.
_WHO_IT_IS = re.compile(r"name|mail|phone|address|street|birth", re.IGNORECASE)
_MOST_KINDS, _MOST_WORDS = 10, 0.5  # kinds that are listed, and different words for each row that still make a category
_ABOUT = {
    INTERACTIONS.name: "What the log seems to hold besides.",
    ITEMS.name: "Further columns of the catalogue. Models learn from them, and answers can be filtered by them.",
    USERS.name: "Columns that say something of the users. Models learn from them.",
    "kinds": "What each kind of event counts, or what it is: history, negative, cancels, ignored.",
}


def suggestions(folder: UPath, mapping: DataMapping, *, with_mapping: bool = False) -> str:
    """Comments for a `data.yaml`: attributes of items and users by their types, and kinds of events; empty for none.

    Args:
        folder: of the source.
        mapping: what is said of the tables.
        with_mapping: whether that stands in the comments, too, because it is a guess that the tables do not need.
    """
    found = as_values(mapping) if with_mapping else {}
    for table in (ITEMS, USERS):
        if attributes := _attributes(folder, table, mapping):
            found[table.name] = found.get(table.name, {}) | {"attributes": attributes}
    if not mapping.kinds and (kinds := _kinds(folder, mapping)):
        found["kinds"] = dict.fromkeys(kinds, 1)
    return "".join(_lines(found))


def _lines(found: dict[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        yield f"#\n# {_ABOUT[name]} To use them, remove the # in front, and what you do not want.\n"
        text = yaml.safe_dump({name: value}, sort_keys=False, allow_unicode=True)
        yield from (f"# {line}\n" for line in text.splitlines())


def _attributes(folder: UPath, table: InputTable, mapping: DataMapping) -> dict[str, str]:
    (given,) = mapping.of(table)
    used = {column.name for column in table.columns} | set(given.columns.values()) | given.attributes.keys()
    types, values = _columns(folder, table, given)
    free = [name for name in types if name not in used and PLAIN_NAME.match(name) and not _NO_ATTRIBUTE.search(name)]
    if table is USERS:
        free = [name for name in free if not _WHO_IT_IS.search(name)]
    kinds = {name: _kind(types[name], values[name]) for name in free}
    return {name: kind for name, kind in kinds.items() if kind}


def _kinds(folder: UPath, mapping: DataMapping) -> list[str]:
    log = mapping.interactions[0]
    name = log.columns.get("kind", "kind")
    found = {str(value) for value in _columns(folder, INTERACTIONS, log)[1].get(name, [])}
    return sorted(found) if 1 < len(found) <= _MOST_KINDS else []


def _columns(folder: UPath, table: InputTable, mapping: TableMapping) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """Types and first values of the columns of a table; none if it is not there, or has a fault, which landing names."""
    try:
        part = first_part(folder, table, mapping)
        types = part_columns(part, mapping) if part else {}
        return types, first_values(part, mapping, *types) if part else {}
    except DataError:
        return {}, {}


def _kind(kind: str, values: list[Any]) -> str:
    """What an attribute of a type may be; empty if it is none, such as a text that is another one in each row."""
    if kind in UNTYPED:
        kind = inferred(values)
    if "struct" in kind or not values:
        return ""
    if "list" in kind:
        element = next((value[0] for value in values if isinstance(value, list) and value), None)
        return "embedding" if isinstance(element, float) else "texts" if isinstance(element, str) else ""
    if re.match(r"u?int|float|double|decimal|halffloat|integer|number", kind):
        return "number"
    if re.match(r"(large_)?string|text|bool|true or false", kind):
        return "text" if len({str(value) for value in values}) <= _MOST_WORDS * len(values) else ""
    return ""
