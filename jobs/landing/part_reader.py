"""Reads one part of a table with the mapping of its table, and brings its columns to the form of the contract."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.base.errors import DataError
from jobs.base.files import file_digest
from jobs.base.places import uri_of
from jobs.landing.contract import LANDED, PICTURES, SPARK, Column, InputTable
from jobs.landing.conversion import Told, as_scalar, convert
from jobs.landing.finding import Part
from jobs.landing.lists import word
from jobs.landing.opened_part import columns_of_templates, open_part
from jobs.landing.python_values import NotText, WrongType
from jobs.landing.raw_rows import RawRows, read_rows
from jobs.landing.records import LandedPart
from jobs.landing.seen import Seen
from jobs.landing.table_mapping import TableMapping
from jobs.landing.times import TimeRule

# Spark's names for the types of a part that is read as it is. Other types are written anew.
_TEXTS = {"string": "string", "large_string": "string"}
_AS_IT_IS = {
    "id": _TEXTS | {"int64": "bigint", "int32": "int", "int16": "smallint", "int8": "tinyint"},
    "timestamp": {"int64": "bigint", "timestamp[us]": "timestamp_ntz", "timestamp[us, tz=UTC]": "timestamp"},
    "number": {"double": "double"},
    "flag": {"bool": "boolean"},
    "text": _TEXTS,
    "binary": {"binary": "binary"},
    "texts": {},
    "embedding": {},
}


class _NotAsItIs(Exception):
    """The part must be written anew."""


@dataclass(frozen=True)
class _Converted:
    """A batch whose columns are in the form of the contract, what conversion noticed, and the rows that it was made from."""

    columns: dict[str, pa.Array]
    told: dict[str, Told]
    raw: RawRows


class PartReader:
    """Reads one part with the mapping of its table."""

    def __init__(self, part: Part, table: InputTable, mapping: TableMapping, times: TimeRule) -> None:
        self.table, self.mapping, self.times = table, mapping, times
        self.opened = open_part(part, mapping)
        self.opened.check(table)
        self.part, self.parquet = self.opened.part, self.opened.parquet
        self.names, self.types = self.opened.names, self.opened.types

    def look(self) -> LandedPart | None:
        """The record of a part that Spark can read as it is; None if it must be written anew."""
        path = self.part.path
        if self.parquet is None or path is None or not self.mapping.fits:
            return None
        if any(column.name in self.part.partition for column in self.table.columns):
            return None
        in_use = [column for column in self.table.columns if column.name in self.names and self.types[column.name] != "null"]
        types = {column.name: self._as_it_is(column) for column in in_use}
        if not all(types.values()) or not self.parquet.spark_reads(list(types)):
            return None
        seen = Seen()
        try:
            for batch in self._batches(only_scalars=True):
                seen.add(batch.columns, batch.told, batch.raw)
                if any(one.null_words or one.unreadable for one in batch.told.values()) or self._blank_ids(batch):
                    raise _NotAsItIs
        except _NotAsItIs:
            return None
        return self._record(seen, uri_of(path), types, written=False, digest=file_digest(path))

    def write(self, parquet: Path) -> LandedPart:
        """Write the part anew, whole or not at all, and give its record."""
        seen = Seen()
        schema = pa.schema(
            [(column.name, LANDED[column.kind]) for column in self.table.columns]
            + [("source_file", pa.string()), ("source_row", pa.int64())]
        )
        draft = parquet.with_name(f".{parquet.name}-{uuid.uuid4().hex}")
        try:
            with pq.ParquetWriter(draft, schema, compression="zstd", compression_level=1) as writer:
                for batch in self._batches(only_scalars=False):
                    seen.add(batch.columns, batch.told, batch.raw)
                    if count := len(batch.raw.numbers):
                        empty = {name: pa.nulls(count, schema.field(name).type) for name in schema.names[:-2]}
                        whole = (
                            empty
                            | batch.columns
                            | {"source_file": pa.repeat(self.part.name, count), "source_row": batch.raw.numbers}
                        )
                        writer.write_table(pa.table(whole, schema=schema))
            draft.replace(parquet)
        finally:
            draft.unlink(missing_ok=True)
        types = {column.name: SPARK[column.kind] for column in self.table.columns}
        return self._record(seen, parquet.resolve().as_uri(), types, written=True, digest=file_digest(parquet))

    def _record(self, seen: Seen, uri: str, types: dict[str, str], *, written: bool, digest: str) -> LandedPart:
        return LandedPart(
            self.part.name,
            str(self.part.path or self.mapping.database),
            uri,
            written,
            types,
            self.part.stamp,
            digest,
            seen.rows_in,
            seen.rows,
            dict(sorted(seen.days.items())),
            {name: count for name, count in seen.missing.items() if count},
            seen.told() + self._without_values(seen),
            self.types,
            seen.samples,
            {why: count for why, count in sorted(seen.left_out.items()) if count},
        )

    def _as_it_is(self, column: Column) -> str:
        """Spark's name for the type of a column that needs no conversion; empty for any other."""
        kind = self.types[column.name]
        if column.kind == "timestamp" and (
            (kind == "int64" and self.times.unit != "s") or (kind == "timestamp[us]" and self.times.zone != "UTC")
        ):
            return ""
        return _AS_IT_IS[column.kind].get(kind, "")

    def _without_values(self, seen: Seen) -> list[str]:
        """What to say of columns that `data.yaml` names and that turn out to hold nothing."""
        given = self.mapping.columns | {name: name for name in self.mapping.attributes if name not in self.mapping.columns}
        named = (name for name in given if seen.rows and seen.missing[name] == seen.rows)
        return [f"the column {given[name]}, which data.yaml takes for {name}, holds no value." for name in named]

    def _blank_ids(self, batch: _Converted) -> bool:
        """Whether an id became null that was not null: the conversion found it blank."""
        return any(
            batch.columns[column.name].null_count != batch.raw.columns[column.name].null_count
            for column in self.table.columns
            if column.kind == "id" and column.name in batch.columns
        )

    def _batches(self, *, only_scalars: bool) -> Iterator[_Converted]:
        """The columns of the contract that the part has."""
        columns = [column for column in self.table.columns if not (only_scalars and column.kind == "binary")]
        pictures = {name for column, name in self.mapping.columns.items() if column in PICTURES} - set(self.mapping.columns)
        columns = [column for column in columns if column.name not in PICTURES or column.name not in pictures]
        origin = {column.name: self.mapping.columns.get(column.name, column.name) for column in columns}
        wanted = list(dict.fromkeys([*origin.values(), *self.mapping.where, *columns_of_templates(self.mapping)]))
        if self.mapping.explode:
            wanted.append(self.mapping.explode)
        for raw in read_rows(self.opened, wanted):
            batch = _Converted({}, {}, raw)
            for column in columns if len(raw.numbers) else ():
                values = self._values(column.name, origin[column.name], raw)
                if values is not None:
                    made, batch.told[column.name] = self._convert(column, origin[column.name], values, raw)
                    batch.columns[column.name] = made
            yield batch

    def _convert(self, column: Column, origin: str, values: Any, raw: RawRows) -> tuple[pa.Array, Told]:
        try:
            made, told = convert(column, values, self.times, self.mapping.list_separator)
        except WrongType as error:
            row = None if error.place is None else str(raw.numbers[error.place])
            what = "the column" if row is None else f"row {row}"
            raise DataError(
                f"{what} has type {error.found}, from which no {column.kind} can be made.",
                file=self.part.path or self.part.name,
                column=origin,
                rows=[] if row is None else [row],
                remedy=error.remedy,
            ) from error
        except NotText as error:
            row = str(raw.numbers[error.place])
            raise DataError(
                f"row {row} is not UTF-8: {error.value[:60]!r}.",
                file=self.part.path or self.part.name,
                column=origin,
                rows=[row],
                remedy=error.remedy,
            ) from error
        return made.fill_null(self._default(column)) if column.name in self.mapping.defaults else made, told

    def _default(self, column: Column) -> pa.Scalar:
        given = self.mapping.defaults[column.name]
        try:
            default = as_scalar(column, given, self.times)
        except WrongType:
            default = pa.scalar(None)
        if not default.is_valid:
            raise DataError(
                f"the default '{given}' is no {column.kind}.", column=column.name, remedy="correct defaults in data.yaml."
            )
        return default

    def _values(self, name: str, origin: str, raw: RawRows) -> Any:
        mapping, count = self.mapping, len(raw.numbers)
        if name == "timestamp" and mapping.rows_in_order:
            return raw.numbers
        if name in mapping.constants:
            return [mapping.constants[name]] * count
        if name in mapping.templates:
            names = columns_of_templates(mapping)
            fields = {field: raw.values(field, self.part.partition.get(field)) for field in names}
            rows = ({field: _plain(values[row]) for field, values in fields.items()} for row in range(count))
            text = mapping.templates[name]
            return [None if any(value is None for value in row.values()) else text.format_map(row) for row in rows]
        if origin in self.part.partition and raw.columns.get(origin) is None:
            return [self.part.partition[origin]] * count
        return raw.columns.get(origin)


def _plain(value: Any) -> Any:
    """A value for a template. Pandas makes floats of integers as soon as one is missing."""
    if isinstance(value, float):
        return None if value != value else str(int(value)) if value.is_integer() else str(value)
    return None if value is None else word(value)


def landed_ids(part: Part, table: InputTable, mapping: TableMapping, name: str) -> Iterator[pa.Array]:
    """The ids of one column of a part, as landing makes them, in batches; nothing if the part has no such column.

    Raises:
        DataError: the part cannot be read, or lacks a column that the mapping names.
    """
    column = next(column for column in table.columns if column.name == name)
    reader = PartReader(part, replace(table, columns=(column,)), mapping, TimeRule("s"))
    return (batch.columns[name] for batch in reader._batches(only_scalars=True) if name in batch.columns)


def part_columns(part: Part, mapping: TableMapping) -> dict[str, str]:
    """The columns of a part, whatever they are called, with their types. Raises `DataError` if it cannot be read."""
    return open_part(part, mapping).types


def first_values(part: Part, mapping: TableMapping, *names: str) -> dict[str, list[Any]]:
    """Of some columns of a part, the values of the first hundred rows, of those that are there."""
    first = next(read_rows(open_part(part, mapping), names), None)
    return {name: [] if first is None else [v for v in first.values(name)[:100] if v is not None] for name in names}
