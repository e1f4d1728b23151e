"""Reads JSON lines, or one array of objects. Every value comes as it stands there."""

import ast
import json
from collections.abc import Iterator, Sequence
from typing import Any

from jobs.base.errors import DataError
from jobs.landing.finding import Part
from jobs.landing.formats.streams import opened
from jobs.landing.table_mapping import TableMapping

_ROWS = 50_000
_PYTHON = ("{'", "{u'")  # how objects begin that Python has printed
_NAMED_BY = 1_000  # objects whose names are looked at

Batch = tuple[dict[str, list[Any]], list[int], int]


def json_names(part: Part, mapping: TableMapping) -> list[str]:
    """Names of the fields in the first thousand objects of a JSON file, in the order in which they come."""
    names: dict[str, None] = {}
    for number, (value, _) in enumerate(_objects(part, mapping), 1):
        names |= dict.fromkeys(value)
        if number == _NAMED_BY:
            break
    return list(names)


def read_json(part: Part, mapping: TableMapping, wanted: Sequence[str]) -> Iterator[Batch]:
    """Rows of JSON lines (or of one array of objects), the number of each line, and how many objects had an empty list.

    What a row lacks is None.

    Args:
        part: the file.
        mapping: its encoding, and the list that is exploded.
        wanted: fields; a dot enters an object.

    Raises:
        DataError: a line is not a JSON object, names a field twice, or holds no list where one is exploded; the message names
            the line.
    """
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    empty = 0
    for value, line in _objects(part, mapping):
        if not mapping.explode:
            rows.append(value)
            lines.append(line)
        else:
            elements = _elements(value, mapping.explode, part, line)
            empty += not elements
            rows += [value | {mapping.explode: element} for element in elements]
            lines += [line] * len(elements)
        if len(rows) >= _ROWS:
            yield {name: [field_of(row, name) for row in rows] for name in wanted}, lines, empty
            rows, lines, empty = [], [], 0
    if rows or empty:
        yield {name: [field_of(row, name) for row in rows] for name in wanted}, lines, empty


def field_of(value: Any, name: str) -> Any:
    """A field of a JSON object, or of an object within it: `user.id`. None if it is not there."""
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    first = name
    while "." in first:
        first = first.rpartition(".")[0]
        if first in value:
            return field_of(value[first], name[len(first) + 1 :])
    return None


def _elements(value: dict[str, Any], name: str, part: Part, line: int) -> list[Any]:
    elements = field_of(value, name)
    if elements is not None and not isinstance(elements, list):
        raise DataError(
            f"line {line} holds {type(elements).__name__} where data.yaml explodes a list.",
            file=part.path,
            column=name,
            rows=[str(line)],
            remedy="correct explode in data.yaml; it must name a list.",
        )
    return elements or []


def _objects(part: Part, mapping: TableMapping) -> Iterator[tuple[dict[str, Any], int]]:
    with opened(part, mapping) as stream:
        line, number = stream.readline().removeprefix("\ufeff"), 1
        while line and not line.strip():
            line, number = stream.readline(), number + 1
        if line.lstrip().startswith("["):
            for place, element in enumerate(_parsed(line + stream.read(), part, number), 1):
                yield _object(element, part, place, "element"), place
            return
        while line:
            if line.strip():
                yield _object(_parsed(line, part, number), part, number, "line"), number
            line, number = stream.readline(), number + 1


def _parsed(text: str, part: Part, line: int) -> Any:
    try:
        if text.startswith(_PYTHON):
            return _python_value(text)
        return json.loads(text, object_pairs_hook=_without_twins)
    except _TwoValues as error:
        raise DataError(
            f"line {line} names the field '{error.args[0]}' twice in one object.",
            file=part.path,
            column=error.args[0],
            rows=[str(line)],
            remedy="give each field a name of its own.",
        ) from error
    except (ValueError, RecursionError, SyntaxError, MemoryError) as error:
        line += (getattr(error, "lineno", None) or 1) - 1
        raise DataError(
            f"line {line} is not JSON ({error}).",
            file=part.path,
            rows=[str(line)],
            remedy="write one whole object on each line; a file that was cut off must be exported again.",
        ) from error


def _python_value(text: str) -> Any:
    """A value in the form in which Python prints it (single quotes, True, None), as in some public data sets."""
    tree = ast.parse(text.strip(), mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            _without_twins([(str(key.value), None) for key in node.keys if isinstance(key, ast.Constant)])
    return ast.literal_eval(tree)


class _TwoValues(Exception):
    pass


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwoValues(next(name for name in names if names.count(name) > 1))
    return made


def _object(value: Any, part: Part, number: int, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise DataError(
            f"{what} {number} holds {type(value).__name__}, not an object.",
            file=part.path,
            rows=[str(number)],
            remedy='write one object on each line, such as {"user_id": "a", "item_id": "b"}.',
        )
    return value
