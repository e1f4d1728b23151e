"""Attributes of the catalogue's items, by row, and which items pass a filter. One Arrow file, which is mapped, not loaded.

It needs pyarrow (`pip install ".[serving]"`).

Shape legend: N items.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["text", "texts", "number"]
_EXPECTED: dict[Kind, str] = {
    "text": 'a list of texts, such as ["shoes", "hats"]',
    "texts": 'a list of texts, such as ["DE", "AT"]',
    "number": 'bounds, such as {"min": 10, "max": 50}',
}


class ItemAttributes:
    """Attributes by item row.

    Args:
        file: a file that `save` wrote.

    Attributes:
        kinds: name of each attribute -> text (one category), texts (several) or number.
    """

    def __init__(self, file: Path) -> None:
        with pa.memory_map(str(file)) as stream:
            table = pa.ipc.open_file(stream).read_all()
        self._columns = {name: table[name].chunk(0) for name in table.column_names}
        self.kinds: dict[str, Kind] = {name: _kind(column.type) for name, column in self._columns.items()}

    @staticmethod
    def save(file: Path, attributes: pa.Table) -> None:
        """Write the attributes of rows 0, 1, 2, ...: columns of type string, list<string> or double, N >= 1.

        Raises:
            ValueError: a column has another type.
        """
        columns = {name: _stored(name, attributes[name].combine_chunks()) for name in attributes.column_names}
        table = pa.table(columns)
        with pa.OSFile(str(file), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table)

    def passing(self, wanted: Mapping[str, Any]) -> np.ndarray:
        """bool [N], the items that pass a filter. An item passes if every attribute that is named has a wanted value.

        Args:
            wanted: attribute -> what it must be. A text must be one of a list of texts; of several texts, one must be in the
                list; a number must lie within `min` and `max`, both included, of which one may be missing. An item that lacks
                the attribute does not pass.

        Raises:
            ValueError: there is no such attribute, or what is wanted has the wrong type; it says what there is.
        """
        return np.logical_and.reduce([self._passing(name, value) for name, value in named(wanted, self.kinds).items()])

    def _passing(self, name: str, value: Any) -> np.ndarray:
        column, kind = self._columns[name], self.kinds[name]
        if kind == "number":
            low, high = _bounds(name, value)
            numbers = column.to_numpy(zero_copy_only=False)  # NaN where it is missing
            return (numbers >= low) & (numbers <= high)
        if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
            raise _unexpected(name, kind, value)
        texts = column.flatten() if kind == "texts" else column
        hit = pc.is_in(texts.dictionary, value_set=pa.array(value, pa.string())).to_numpy(zero_copy_only=False)
        hits = np.append(hit, False)[texts.indices.fill_null(len(hit)).to_numpy()]  # the last stands for a missing text
        if kind == "text":
            return hits
        ends = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy())])
        before = np.concatenate([[0], np.cumsum(hits)])
        return before[ends[1:]] > before[ends[:-1]]


def named(wanted: Any, kinds: Mapping[str, Kind]) -> Mapping[str, Any]:
    """The filter itself. Raises `ValueError` if it is none, or names an attribute that is not there."""
    there = ", ".join(f"{name} ({kind})" for name, kind in kinds.items()) or "none"
    if not isinstance(wanted, Mapping):
        raise ValueError(f"filter: expected attributes with what they must be, got {str(wanted)[:80]!r}; attributes: {there}")
    unknown = sorted(str(name) for name in wanted if name not in kinds)
    if unknown:
        raise ValueError(f"filter: this bundle has no attribute {', '.join(unknown)[:80]!r}; attributes: {there}")
    return wanted


def _bounds(name: str, value: Any) -> tuple[float, float]:
    fine = isinstance(value, Mapping) and value and value.keys() <= {"min", "max"}
    numbers = list(value.values()) if fine else [None]
    if not all(isinstance(bound, int | float) and not isinstance(bound, bool) and bound == bound for bound in numbers):
        raise _unexpected(name, "number", value)
    return value.get("min", -np.inf), value.get("max", np.inf)


def _unexpected(name: str, kind: Kind, value: Any) -> ValueError:
    return ValueError(f"filter: {name} is a {kind} and takes {_EXPECTED[kind]}; got {str(value)[:80]!r}")


def _stored(name: str, column: pa.Array) -> pa.Array:
    if pa.types.is_string(column.type):
        return column.dictionary_encode()
    if pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        return pa.ListArray.from_arrays(offsets, column.flatten().dictionary_encode())
    if pa.types.is_float64(column.type):
        return column
    raise ValueError(f"attribute {name}: expected string, list<string> or double, got {column.type}")


def _kind(stored: pa.DataType) -> Kind:
    return "text" if pa.types.is_dictionary(stored) else "texts" if pa.types.is_list(stored) else "number"
