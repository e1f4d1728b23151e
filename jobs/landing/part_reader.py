"""Reads one part of a table with the mapping of its table, and brings its columns to the form of the contract."""

import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.base.errors import DataError
from jobs.base.files import file_digest
from jobs.base.places import uri_of
from jobs.landing import log_tables, queries, typed_tables
from jobs.landing.contract import LANDED, SPARK, Column, InputTable
from jobs.landing.conversion import NotText, Told, WrongType, as_scalar, convert
from jobs.landing.csv_files import read_csv
from jobs.landing.finding import Part
from jobs.landing.json_files import read_json
from jobs.landing.lists import word
from jobs.landing.opened_part import columns_of_templates, open_part
from jobs.landing.records import EMPTY_LIST, NOT_WANTED, LandedPart
from jobs.landing.seen import Seen
from jobs.landing.table_mapping import TableMapping
from jobs.landing.times import TimeRule

# Spark's names for the types of a part that is read as it is. Other types are written anew.
_AS_IT_IS = {
    "id": {"string": "string", "int64": "bigint", "int32": "int", "int16": "smallint", "int8": "tinyint"},
    "timestamp": {"int64": "bigint", "timestamp[us]": "timestamp_ntz", "timestamp[us, tz=UTC]": "timestamp"},
    "number": {"double": "double"},
    "flag": {"bool": "boolean"},
    "text": {"string": "string"},
    "binary": {"binary": "binary"},
    "texts": {},
    "embedding": {},
}
_PATTERN = frozenset("[]{}*?\\%")  # Spark would take these letters of a path for a pattern, or for an escape


class _NotAsItIs(Exception):
    """The part must be written anew."""


class PartReader:
    """Reads one part with the mapping of its table."""

    def __init__(self, part: Part, table: InputTable, mapping: TableMapping, times: TimeRule) -> None:
        self.table, self.mapping, self.times = table, mapping, times
        self.opened = open_part(part, mapping)
        self.opened.check(table)
        self.part, self.parquet = self.opened.part, self.opened.parquet
        self.names, self.types = self.opened.names, self.opened.types
        self.rows_in, self.left_out = 0, Counter[str]()

    def look(self) -> LandedPart | None:
        """The record of a part that Spark can read as it is; None if it must be written anew."""
        path = self.part.path
        if self.parquet is None or path is None or not self.mapping.fits or _PATTERN & set(path.path):
            return None
        if any(column.name in self.part.partition for column in self.table.columns):
            return None
        in_use = [column for column in self.table.columns if column.name in self.names and self.types[column.name] != "null"]
        types = {column.name: self._as_it_is(column) for column in in_use}
        if not all(types.values()) or not self.parquet.spark_reads(list(types)):
            return None
        seen = Seen()
        try:
            for columns, told, _ in self._batches(only_scalars=True):
                seen.add(columns, told)
                if any(one.null_words or one.unreadable for one in told.values()) or self._blank_ids(columns):
                    raise _NotAsItIs
        except _NotAsItIs:
            return None
        seen.rows_in = seen.rows = self.parquet.rows
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
                for columns, told, rows in self._batches(only_scalars=False):
                    seen.add(columns, told)
                    seen.rows += len(rows)
                    whole = {
                        name: columns.get(name, pa.nulls(len(rows), schema.field(name).type)) for name in schema.names[:-2]
                    }
                    whole |= {"source_file": pa.repeat(self.part.name, len(rows)), "source_row": rows}
                    writer.write_table(pa.table(whole, schema=schema))
            seen.rows_in, seen.left_out = self.rows_in, self.left_out
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
        named = (name for name in self.mapping.columns if seen.rows and seen.missing[name] == seen.rows)
        return [f"the column {self.mapping.columns[name]}, which data.yaml takes for {name}, holds no value." for name in named]

    def _blank_ids(self, columns: dict[str, pa.Array]) -> bool:
        """Whether an id became null that was not null: the conversion found it blank."""
        return any(
            columns[column.name].null_count != self.raw_nulls.get(column.name, 0)
            for column in self.table.columns
            if column.kind == "id" and column.name in columns
        )

    def _batches(self, *, only_scalars: bool) -> Iterator[tuple[dict[str, pa.Array], dict[str, Told], pa.Array]]:
        """The columns of the contract that the part has, what conversion noticed, and the number of each row."""
        self.rows_in, self.left_out = 0, Counter[str]()
        columns = [column for column in self.table.columns if not (only_scalars and column.kind == "binary")]
        if self.mapping.columns.get("image_paths") == "image_path":  # a list of several, which image_path cannot hold
            columns = [column for column in columns if column.name != "image_path"]
        origin = {column.name: self.mapping.columns.get(column.name, column.name) for column in columns}
        wanted = list(dict.fromkeys([*origin.values(), *self.mapping.where, *columns_of_templates(self.mapping)]))
        if self.mapping.explode:
            wanted.append(self.mapping.explode)
        for raw, rows in self._raw(wanted):
            made: dict[str, pa.Array] = {}
            told: dict[str, Told] = {}
            self.raw_nulls = {}
            for column in columns:
                values = self._values(column.name, origin[column.name], raw, len(rows))
                if values is None:
                    continue
                self.raw_nulls[column.name] = values.null_count if not isinstance(values, list) else -1
                try:
                    made[column.name], told[column.name] = convert(column, values, self.times, self.mapping.list_separator)
                except WrongType as error:
                    row = None if error.place is None else str(rows[error.place])
                    what = "the column" if row is None else f"row {row}"
                    raise DataError(
                        f"{what} has type {error.found}, from which no {column.kind} can be made.",
                        file=self.part.path or self.part.name,
                        column=origin[column.name],
                        rows=[] if row is None else [row],
                        remedy=error.remedy,
                    ) from error
                except NotText as error:
                    row = rows[error.place].as_py()
                    raise DataError(
                        f"row {row} is not UTF-8: {error.value[:60]!r}.",
                        file=self.part.path or self.part.name,
                        column=origin[column.name],
                        rows=[str(row)],
                        remedy="write the column again as UTF-8 (these bytes look like Latin-1 or Windows-1252).",
                    ) from error
                if column.name in self.mapping.defaults:
                    made[column.name] = made[column.name].fill_null(self._default(column))
            yield made, told, rows

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

    def _values(self, name: str, origin: str, raw: dict[str, Any], count: int) -> Any:
        mapping = self.mapping
        if name in mapping.constants:
            return [mapping.constants[name]] * count
        if name in mapping.templates:
            names = columns_of_templates(mapping)
            fields = {field: _python(raw.get(field), self.part.partition.get(field), count) for field in names}
            rows = ({field: _plain(values[row]) for field, values in fields.items()} for row in range(count))
            text = mapping.templates[name]
            return [None if any(value is None for value in row.values()) else text.format_map(row) for row in rows]
        if origin in self.part.partition and raw.get(origin) is None:
            return [self.part.partition[origin]] * count
        return raw.get(origin)

    def _raw(self, wanted: list[str]) -> Iterator[tuple[dict[str, Any], pa.Array]]:
        """Batches as the part gives them, of the rows that `where` wants, exploded."""
        part, mapping = self.part, self.mapping
        if part.format in ("csv", "json"):
            batches_of_text = (
                read_csv(part, mapping, wanted) if part.format == "csv" else read_json(part, mapping, wanted, self.left_out)
            )
            for values, lines in batches_of_text:
                self.rows_in += len(lines)
                keep = self._wanted_rows({name: values.get(name) for name in mapping.where}, len(lines))
                if keep is not None:
                    self.left_out[NOT_WANTED] += len(lines) - len(keep)
                    values = {name: [column[row] for row in keep] for name, column in values.items()}
                    lines = [lines[row] for row in keep]
                if lines:
                    yield values, pa.array(lines, pa.int64())
            return
        if part.format == "parquet":
            batches = typed_tables.read_parquet(part, wanted)
        elif part.format in ("delta", "iceberg"):
            batches = log_tables.read_log_table(part, self.opened.table, wanted, self.names)
        else:
            batches = queries.read_query(part, mapping)
        for table, rows in batches:
            if mapping.explode:
                table, rows, empty = typed_tables.explode(table, rows, mapping.explode, part)
                self.left_out[EMPTY_LIST] += empty
            self.rows_in += len(table)
            found = {name: typed_tables.nested(table, name) for name in wanted}
            keep = self._wanted_rows({name: _python(found[name], None, len(rows)) for name in mapping.where}, len(rows))
            if keep is not None:
                self.left_out[NOT_WANTED] += len(rows) - len(keep)
                found = {
                    name: None if column is None else column.take(pa.array(keep, pa.int64())) for name, column in found.items()
                }
                rows = rows.take(pa.array(keep, pa.int64()))
            if len(rows):
                yield found, rows

    def _wanted_rows(self, columns: dict[str, list[Any] | None], count: int) -> list[int] | None:
        """Numbers of the rows whose values `where` names; None for all."""
        if not self.mapping.where:
            return None
        keep = set(range(count))
        for name, values in columns.items():
            wanted = {word(value) for value in self.mapping.where[name]}
            given = values or [self.part.partition.get(name)] * count
            keep &= {row for row, value in enumerate(given) if word(value) in wanted}
        return sorted(keep)


def _plain(value: Any) -> Any:
    """A value for a template. Pandas makes floats of integers as soon as one is missing."""
    if isinstance(value, float):
        return None if value != value else str(int(value)) if value.is_integer() else str(value)
    return None if value is None else word(value)


def _python(values: Any, constant: str | None, count: int) -> list[Any]:
    if values is None:
        return [constant] * count
    return values if isinstance(values, list) else values.to_pylist()


def part_columns(part: Part, mapping: TableMapping) -> dict[str, str]:
    """The columns of a part, whatever they are called, with their types. Raises `DataError` if it cannot be read."""
    return PartReader(part, _NO_TABLE, mapping, TimeRule("s")).types


def first_values(part: Part, mapping: TableMapping, name: str) -> list[Any]:
    """The first hundred values of one column of a part, of those that are there."""
    raw = next(PartReader(part, _NO_TABLE, mapping, TimeRule("s"))._raw([name]), None)
    values = [] if raw is None else _python(raw[0].get(name), None, 0)[:100]
    return [value for value in values if value is not None]


_NO_TABLE = InputTable("any", False, "A table of which nothing is known.", ())
