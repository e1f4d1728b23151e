"""Values of a column that holds lists: the several categories of an item, or a vector that was made elsewhere."""

import json
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SEPARATOR = "|"  # between the elements of a text, unless data.yaml names another
_MISSING = "nan"
_BETWEEN_NUMBERS = re.compile(r"[\s,;|]+")


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's lists."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def word(value: Any) -> str:
    """A plain value as text, true and false as JSON writes them."""
    return "true" if value is True else "false" if value is False else str(value)


def holds_several(values: pa.ChunkedArray | pa.Array | list[Any]) -> bool:
    """Whether one of the values is a list of more than one element."""
    if isinstance(values, list):
        return any(isinstance(value, list) and len(value) > 1 for value in values)
    return is_list(values.type) and (pc.max(pc.list_value_length(values)).as_py() or 0) > 1


def of_python(values: list[Any], separator: str = SEPARATOR) -> list[Any] | pa.Array:
    """Values of JSON or CSV: list<string> as soon as one is a list; a text among them becomes the list that it says.

    A missing element becomes the text "nan": no number, and no category.
    """
    if not any(isinstance(value, list) for value in values):
        return values
    rows = (_split(value, separator) if isinstance(value, str) else value for value in values)
    lists = (row if row is None or isinstance(row, list) else [row] for row in rows)
    rows_of_texts = [None if row is None else [_MISSING if part is None else _text(part) for part in row] for row in lists]
    return pa.array(rows_of_texts, pa.list_(pa.string()))


def texts(array: pa.Array, separator: str = SEPARATOR) -> pa.Array:
    """list<string> of lists of any plain values, or of texts that hold a list. Missing and blank elements are left out."""
    rows = (_split(value, separator) if isinstance(value, str) else value for value in array.to_pylist())
    return pa.array([None if row is None else _filled(row) for row in rows], pa.list_(pa.string()))


def elements(text: str | None, separator: str = SEPARATOR) -> list[str]:
    """The elements of a list that is written as a text, without blank ones; none if there is no text."""
    return [] if text is None else _filled(_split(text, separator))


def vectors(array: pa.Array) -> pa.Array:
    """list<float> of lists of numbers, or of texts that hold numbers. A row with anything else, or with nothing, is null."""
    if pa.types.is_string(array.type) or pa.types.is_string(array.type.value_type):
        array = pa.array([_numbers(value) for value in array.to_pylist()], pa.list_(pa.float32()))
    else:
        array = array.cast(pa.list_(pa.float32()))
    flat = array.flatten().to_numpy(zero_copy_only=False)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    row_of_number = np.repeat(np.arange(len(array)), lengths)
    bad = np.ones(len(array), bool)  # a row without a number has none that could clear it
    bad[row_of_number] = False
    bad[row_of_number[~np.isfinite(flat)]] = True
    return pc.if_else(pa.array(bad), pa.scalar(None, array.type), array)


def _split(text: str, separator: str) -> list[Any]:
    """The elements of a text such as `["DE", "AT"]` or, with the separator between them, `DE|AT`."""
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = [part.strip().strip("'\"") for part in text.strip().strip("[]").split(",")]
        return [part for part in found if not isinstance(part, list | dict)]
    return text.split(separator)


def _filled(row: list[Any]) -> list[str]:
    return [text for part in row if part not in (None, _MISSING) and (text := _text(part))]


def _text(value: Any) -> str:
    return word(value).strip()


def _numbers(value: str | list[str] | None) -> list[float] | None:
    parts = [part for part in _BETWEEN_NUMBERS.split(value.strip(" []()")) if part] if isinstance(value, str) else value
    try:
        return None if parts is None else [float(part) for part in parts]
    except (TypeError, ValueError):
        return None
