"""Reads one part of a table with the mapping of its table, and brings its columns to the form of the contract."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.base.errors import DataError
from jobs.base.files import file_digest
from jobs.base.places import uri_of
from jobs.landing import text_files, typed_tables
from jobs.landing.contract import LANDED, SPARK, Column, InputTable
from jobs.landing.conversion import NotText, TimeRule, Told, WrongType, as_scalar, convert
from jobs.landing.finding import Part
from jobs.landing.mapping import TableMapping
from jobs.landing.records import LandedPart
from jobs.landing.seen import Seen

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
        self.table, self.mapping, self.times, self.opened = table, mapping, times, None
        self.parquet = typed_tables.open_parquet(part) if part.format == "parquet" else None
        if part.format == "delta":
            part, self.opened = typed_tables.open_delta(part, mapping)
        elif part.format == "iceberg":
            part, self.opened = typed_tables.open_iceberg(part, mapping)
        self.part = part
        self.names, self.types = self._columns()
        self._check_columns()

    def look(self) -> LandedPart | None:
        """The record of a part that Spark can read as it is; None if it must be written anew."""
        path = self.part.path
        if self.parquet is None or path is None or not self.mapping.fits or _PATTERN & set(path.path):
            return None
        in_use = [column for column in self.table.columns if column.name in self.names and self.types[column.name] != "null"]
        types = {column.name: _AS_IT_IS[column.kind].get(self.types[column.name], "") for column in in_use}
        unit = all(
            column.kind != "timestamp" or self.types[column.name] != "int64" or self.times.unit == "s" for column in in_use
        )
        zone = all(types[column.name] != "timestamp_ntz" or self.times.zone == "UTC" for column in in_use)
        if not all(types.values()) or not unit or not zone or not self.parquet.spark_reads(list(types)):
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
            seen.rows_in = self.rows_in
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
            seen.told(),
            self.types,
            seen.samples,
        )

    def _as_it_is(self, column: Column) -> str:
        """Spark's name for the type of a column that needs no conversion; empty for any other."""
        kind = self.types[column.name]
        if column.kind == "timestamp" and (
            (kind == "int64" and self.times.unit != "s") or (kind == "timestamp[us]" and self.times.zone != "UTC")
        ):
            return ""
        return _AS_IT_IS[column.kind].get(kind, "")

    def _blank_ids(self, columns: dict[str, pa.Array]) -> bool:
        """Whether an id became null that was not null: the conversion found it blank."""
        return any(
            columns[column.name].null_count != self.raw_nulls.get(column.name, 0)
            for column in self.table.columns
            if column.kind == "id" and column.name in columns
        )

    def _columns(self) -> tuple[list[str], dict[str, str]]:
        """Names and types of the part's own columns."""
        part = self.part
        if self.parquet is not None:
            schema: pa.Schema = self.parquet.schema
        elif part.format in ("delta", "iceberg"):
            opened: Any = self.opened
            schema = opened.schema if part.format == "delta" else opened.projection().as_arrow()
        elif part.format == "csv":
            names = text_files.csv_names(part, self.mapping)
            return names, dict.fromkeys(names, "text")
        elif part.format == "json":
            names = text_files.json_names(part, self.mapping)
            return names, dict.fromkeys(names, "JSON")
        else:
            first = next(typed_tables.read_query(part, self.mapping), None)
            schema = pa.schema([]) if first is None else first[0].schema
        plain = {field.name: field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema}
        return list(schema.names), {name: str(kind) for name, kind in plain.items()}

    def _check_columns(self) -> None:
        mapping, file = self.mapping, self.part.path or self.part.name
        for column in self.table.columns:
            given = mapping.columns.get(column.name)
            if given is not None and not self._has(given):
                raise self._missing(given, f"correct columns.{column.name} in data.yaml.")
            if column.required and not (self._gives(column.name) or (column.instead and self._gives(column.instead))):
                near = [name for name in self.names if name.lower().replace("_", "") == column.name.replace("_", "")]
                entry = f"columns: {{{column.name}: {near[0] if near else '...'}}}"
                raise self._missing(column.name, f"name the column in data.yaml ({entry}), or rename it. {column.meaning}")
        for name in filter(None, [*mapping.where, mapping.explode, *self._of_templates()]):
            if not self._has(name):
                raise self._missing(name, "correct data.yaml.")
        twins = sorted(name for name in self.names if sum(name.lower() == other.lower() for other in self.names) > 1)
        wanted = {mapping.columns.get(column.name, column.name).lower() for column in self.table.columns}
        if any(name.lower() in wanted and name not in self.names for name in twins):
            raise DataError(
                f"the columns {' and '.join(twins)} differ by case alone.",
                file=file,
                column=twins[0],
                remedy="rename one of them.",
            )

    def _gives(self, name: str) -> bool:
        """Whether the part has a value for a column of the contract."""
        mapping = self.mapping
        return name in mapping.columns or name in mapping.constants or name in mapping.templates or self._has(name)

    def _missing(self, name: str, remedy: str) -> DataError:
        found = ", ".join(self.names[:40]) or "none"
        header = (
            " Does the file lack a header line? Then list the columns as names in data.yaml."
            if self.part.format == "csv" and not self.mapping.names
            else ""
        )
        return DataError(
            f"a column is missing; columns found: {found}.",
            file=self.part.path or self.part.name,
            column=name,
            remedy=remedy + header,
        )

    def _has(self, name: str) -> bool:
        first = name.split(".")[0]
        if name in self.names or name in self.part.partition or self.part.format == "json":
            return name in self.names or name in self.part.partition or first in self.names or not self.names
        return first in self.names and "." in name

    def _of_templates(self) -> list[str]:
        return [name for text in self.mapping.templates.values() for _, name, _, _ in Formatter().parse(text) if name]

    def _batches(self, *, only_scalars: bool) -> Iterator[tuple[dict[str, pa.Array], dict[str, Told], pa.Array]]:
        """The columns of the contract that the part has, what conversion noticed, and the number of each row."""
        self.rows_in = 0
        columns = [column for column in self.table.columns if not (only_scalars and column.kind == "binary")]
        origin = {column.name: self.mapping.columns.get(column.name, column.name) for column in columns}
        wanted = list(dict.fromkeys([*origin.values(), *self.mapping.where, *self._of_templates()]))
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
                    made[column.name], told[column.name] = convert(column, values, self.times)
                except WrongType as error:
                    raise DataError(
                        f"the column has type {error.found}, from which no {column.kind} can be made.",
                        file=self.part.path or self.part.name,
                        column=origin[column.name],
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
                    default = as_scalar(column, self.mapping.defaults[column.name], self.times)
                    made[column.name] = made[column.name].fill_null(default)
            yield made, told, rows

    def _values(self, name: str, origin: str, raw: dict[str, Any], count: int) -> Any:
        mapping = self.mapping
        if name in mapping.constants:
            return [mapping.constants[name]] * count
        if name in mapping.templates:
            fields = {field: _python(raw.get(field), self.part.partition.get(field), count) for field in self._of_templates()}
            rows = ({field: values[row] for field, values in fields.items()} for row in range(count))
            text = mapping.templates[name]
            return [None if any(value is None for value in row.values()) else text.format_map(row) for row in rows]
        if origin in self.part.partition and raw.get(origin) is None:
            return [self.part.partition[origin]] * count
        return raw.get(origin)

    def _raw(self, wanted: list[str]) -> Iterator[tuple[dict[str, Any], pa.Array]]:
        """Batches as the part gives them, of the rows that `where` wants, exploded."""
        part, mapping = self.part, self.mapping
        if part.format in ("csv", "json"):
            read = text_files.read_csv if part.format == "csv" else text_files.read_json
            for values, lines in read(part, mapping, wanted):
                self.rows_in += len(lines)
                keep = self._wanted_rows({name: values.get(name) for name in mapping.where}, len(lines))
                if keep is not None:
                    values = {name: [column[row] for row in keep] for name, column in values.items()}
                    lines = [lines[row] for row in keep]
                if lines:
                    yield values, pa.array(lines, pa.int64())
            return
        if part.format == "parquet":
            batches = typed_tables.read_parquet(part, wanted)
        elif part.format in ("delta", "iceberg"):
            batches = typed_tables.read_log_table(part, self.opened, wanted, self.names)
        else:
            batches = typed_tables.read_query(part, mapping)
        for table, rows in batches:
            if mapping.explode:
                table, rows = typed_tables.explode(table, rows, mapping.explode)
            self.rows_in += len(table)
            found = {name: typed_tables.nested(table, name) for name in wanted}
            keep = self._wanted_rows({name: _python(found[name], None, len(rows)) for name in mapping.where}, len(rows))
            if keep is not None:
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
            wanted = {_word(value) for value in self.mapping.where[name]}
            given = values or [self.part.partition.get(name)] * count
            keep &= {row for row, value in enumerate(given) if _word(value) in wanted}
        return sorted(keep)


def _word(value: Any) -> str:
    return "true" if value is True else "false" if value is False else str(value)


def _python(values: Any, constant: str | None, count: int) -> list[Any]:
    if values is None:
        return [constant] * count
    return values if isinstance(values, list) else values.to_pylist()
