"""Opens one part of a table: what columns it has, and whether they are those that its mapping needs."""

from dataclasses import dataclass
from difflib import get_close_matches
from string import Formatter
from typing import Any

import pyarrow as pa

from jobs.base.errors import DataError
from jobs.landing.contract import InputTable
from jobs.landing.finding import Part
from jobs.landing.formats import log_tables, queries, typed_tables
from jobs.landing.formats.csv_files import csv_names
from jobs.landing.formats.json_files import json_names
from jobs.landing.table_mapping import Format, TableMapping


@dataclass(frozen=True)
class OpenedPart:
    """A part and its columns.

    Attributes:
        part: the part; that of a Delta or Iceberg table names the state that is read.
        mapping: of its table.
        names: of its columns, in order. None for an empty file.
        types: by name of column.
        schema: of a table whose columns have types.
        parquet: the footer of a Parquet file.
        table: what `read_log_table` reads.
    """

    part: Part
    mapping: TableMapping
    names: list[str]
    types: dict[str, str]
    schema: pa.Schema | None = None
    parquet: typed_tables.ParquetFile | None = None
    table: Any = None

    def check(self, table: InputTable) -> None:
        """Raise `DataError` if a column is missing that the contract or the mapping needs, or is there twice."""
        mapping = self.mapping
        if not self.names:  # an empty file; the table may have other parts
            return
        for column in table.columns:
            given = mapping.columns.get(column.name)
            if given is not None and not self._has(given):
                raise self._missing(given, f"correct columns.{column.name} in data.yaml.")
            if column.required and not (self._gives(column.name) or (column.instead and self._gives(column.instead))):
                near = [name for name in self.names if name.lower().replace("_", "") == column.name.replace("_", "")]
                entry = f"columns: {{{column.name}: {near[0] if near else '...'}}}"
                raise self._missing(column.name, f"name the column in data.yaml ({entry}), or rename it. {column.meaning}")
        others = [name for name in (*mapping.where, mapping.explode, *columns_of_templates(mapping)) if name]
        for name in others:
            if not self._has(name):
                raise self._missing(name, "correct data.yaml.")
        for name in (*(mapping.columns.get(column.name, column.name) for column in table.columns), *others):
            if self.names.count(name) > 1:
                raise typed_tables.two_of_one_name(self.part, name)

    def _gives(self, name: str) -> bool:
        """Whether the part has a value for a column of the contract."""
        mapping = self.mapping
        if name == "timestamp" and mapping.rows_in_order:
            return True
        return name in mapping.columns or name in mapping.constants or name in mapping.templates or self._has(name)

    def _has(self, name: str) -> bool:
        if name in self.names or name in self.part.partition:
            return True
        if self.part.format == "json":
            return name.split(".")[0] in self.names
        return self.schema is not None and typed_tables.has(self.schema, name, self.mapping.explode)

    def _missing(self, name: str, remedy: str) -> DataError:
        found = ", ".join(self.names[:40]) or "none"
        header = (
            " Does the file lack a header line? Then list the columns as names in data.yaml."
            if self.part.format == "csv" and not self.mapping.names
            else ""
        )
        near = get_close_matches(name, self.names, 1, cutoff=0.75)
        meant = f" Is {near[0]} meant?" if near else ""
        return DataError(
            f"a column is missing; columns found: {found}.",
            file=self.part.path or self.part.name,
            column=name,
            remedy=remedy + (meant or header),
        )


def open_part(part: Part, mapping: TableMapping) -> OpenedPart:
    """Open a part. Raises `DataError` if it cannot be read, or if `data.yaml` says of it what its format does not have."""
    _check_options(part, mapping)
    if part.format == "csv":
        names = csv_names(part, mapping)
        return OpenedPart(part, mapping, names, dict.fromkeys(names, "text"))
    if part.format == "json":
        names = json_names(part, mapping)
        return OpenedPart(part, mapping, names, dict.fromkeys(names, "JSON"))
    parquet, table = None, None
    if part.format == "parquet":
        parquet = typed_tables.open_parquet(part)
        schema: pa.Schema = parquet.schema
    elif part.format == "delta":
        part, table = log_tables.open_delta(part, mapping)
        schema = table.schema
    elif part.format == "iceberg":
        part, table = log_tables.open_iceberg(part, mapping)
        schema = table.projection().as_arrow()
    else:
        first = next(queries.read_query(part, mapping), None)
        schema = pa.schema([]) if first is None else first[0].schema
    plain = (field.type.value_type if pa.types.is_dictionary(field.type) else field.type for field in schema)
    types = {name: str(kind) for name, kind in zip(schema.names, plain, strict=True)}
    return OpenedPart(part, mapping, list(schema.names), types, schema, parquet, table)


# What is said of some formats only. It would change nothing in another one, and its author would not notice.
_LOGS: tuple[Format, ...] = ("delta", "iceberg")
_OPTIONS: dict[str, tuple[Format, ...]] = {
    "version": _LOGS,
    "as_of": _LOGS,
    "delimiter": ("csv",),
    "names": ("csv",),
    "encoding": ("csv", "json"),
}


def _check_options(part: Part, mapping: TableMapping) -> None:
    for name, formats in _OPTIONS.items():
        if getattr(mapping, name) not in (None, "", []) and part.format not in formats:
            raise DataError(
                f"data.yaml gives {name}, which means nothing for {part.format or 'the result of a query'}.",
                file=part.path or part.name,
                remedy=f"take {name} out of data.yaml, or set format if this is no {part.format or 'query'}.",
            )


def columns_of_templates(mapping: TableMapping) -> list[str]:
    """Columns from which the templates of a mapping make texts."""
    return [name for text in mapping.templates.values() for _, name, _, _ in Formatter().parse(text) if name]
