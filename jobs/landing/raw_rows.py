"""The rows of a part as its owner's file gives them: with lists exploded, and only those that `where` wants."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from jobs.landing.formats import log_tables, queries, typed_tables
from jobs.landing.formats.csv_files import read_csv
from jobs.landing.formats.json_files import read_json
from jobs.landing.lists import elements, word
from jobs.landing.opened_part import OpenedPart
from jobs.landing.records import EMPTY_LIST, NOT_WANTED
from jobs.landing.table_mapping import TableMapping


@dataclass(frozen=True)
class RawRows:
    """A batch of rows.

    Attributes:
        columns: by name, an Arrow array, or a list of the values of CSV or JSON; None if the part has no such column.
        numbers: int64, the number of each row in its file: the line of a text, the place from 0 in any other.
        rows_in: rows that were read, of which these are the wanted ones.
        left_out: rows that were not landed, by reason.
    """

    columns: dict[str, Any]
    numbers: pa.Array
    rows_in: int
    left_out: dict[str, int] = field(default_factory=dict)

    def values(self, name: str, otherwise: str | None = None) -> list[Any]:
        """The values of a column; `otherwise` for each row if the part has no such column."""
        return _values(self.columns.get(name), otherwise, len(self.numbers))


class _Wanted:
    """The values that `where` wants of one column. `data.yaml` gives texts, and the column has values of any type."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._texts = {word(value) for value in values}
        self._flags = {text.lower() for text in self._texts} & {"true", "false"}
        self._numbers = {number for text in self._texts if (number := _number(text)) is not None}

    def __contains__(self, value: Any) -> bool:
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
            return _number(value) in self._numbers
        text = word(value)
        return text in self._texts or text.lower() in self._flags


def _number(value: Any) -> Decimal | None:
    """A number, so that 5, 5.0 and the text 5 are one; None for what is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def read_rows(opened: OpenedPart, wanted: Sequence[str]) -> Iterator[RawRows]:
    """The wanted columns of a part, in batches. Raises `DataError` if the part cannot be read."""
    mapping, partition = opened.mapping, opened.part.partition
    for columns, numbers, empty in _batches(opened, wanted):
        rows_in, left_out = len(numbers), {EMPTY_LIST: empty} if empty else {}
        if mapping.where:
            keep = set(range(rows_in))
            for name, values in mapping.where.items():
                given = enumerate(_values(columns.get(name), partition.get(name), rows_in))
                wanted_values = _Wanted(values)
                keep &= {row for row, value in given if value in wanted_values}
            kept = pa.array(sorted(keep), pa.int64())
            columns = {name: _taken(column, kept) for name, column in columns.items()}
            numbers = numbers.take(kept)
            left_out[NOT_WANTED] = rows_in - len(kept)
        yield RawRows(columns, numbers, rows_in, left_out)


def _batches(opened: OpenedPart, wanted: Sequence[str]) -> Iterator[tuple[dict[str, Any], pa.Array, int]]:
    """Columns, the numbers of the rows, and how many rows had an empty list where one is exploded."""
    part, mapping = opened.part, opened.mapping
    if part.format == "csv":
        for values, lines in read_csv(part, mapping, wanted):
            yield _exploded(values, lines, mapping) if mapping.explode else (values, pa.array(lines, pa.int64()), 0)
    elif part.format == "json":
        for values, lines, empty in read_json(part, mapping, wanted):
            yield values, pa.array(lines, pa.int64()), empty
    else:
        for table, numbers in _tables(opened, wanted):
            empty = 0
            if mapping.explode:
                table, numbers, empty = typed_tables.explode(table, numbers, mapping.explode, part)
            yield {name: typed_tables.nested(table, name) for name in wanted}, numbers, empty


def _exploded(values: dict[str, list[Any]], lines: list[int], mapping: TableMapping) -> tuple[dict[str, Any], pa.Array, int]:
    """A row for each element of a list that a CSV file writes as a text."""
    lists = [elements(text, mapping.list_separator) for text in values[mapping.explode]]
    rows = [row for row, found in enumerate(lists) for _ in found]
    taken = {name: [column[row] for row in rows] for name, column in values.items()}
    taken[mapping.explode] = [element for found in lists for element in found]
    return taken, pa.array([lines[row] for row in rows], pa.int64()), sum(not found for found in lists)


def _tables(opened: OpenedPart, wanted: Sequence[str]) -> Iterator[typed_tables.Batch]:
    part = opened.part
    if part.format == "parquet":
        return typed_tables.read_parquet(part, wanted)
    if part.format in ("delta", "iceberg"):
        return log_tables.read_log_table(part, opened.table, wanted, opened.names)
    return queries.read_query(part, opened.mapping)


def _taken(column: Any, kept: pa.Array) -> Any:
    if isinstance(column, list):
        return [column[row] for row in kept.to_pylist()]
    return None if column is None else column.take(kept)


def _values(column: Any, otherwise: str | None, count: int) -> list[Any]:
    if column is None:
        return [otherwise] * count
    return column if isinstance(column, list) else column.to_pylist()
