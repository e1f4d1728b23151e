"""Reads tables whose columns have types: Parquet files; and enters nested columns and lists of any such table."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import arrow_source
from jobs.landing.finding import Part
from jobs.landing.lists import is_list

_BATCH_BYTES, MOST_ROWS = 64 * 2**20, 131_072
# What Spark's own reader can read; other files are written anew.
_SPARK_CODECS = {"UNCOMPRESSED", "SNAPPY", "GZIP", "ZSTD"}
_SPARK_ENCODINGS = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_BINARY_PACKED"}

Batch = tuple[pa.Table, pa.Array]


@dataclass(frozen=True)
class ParquetFile:
    """The footer of a Parquet file: its columns, its rows, and whether Spark can read the columns in use."""

    schema: pa.Schema
    rows: int
    row_bytes: float
    metadata: pq.FileMetaData

    def spark_reads(self, columns: Sequence[str]) -> bool:
        """Whether Spark's reader knows codecs, encodings and types of these columns, and can tell their names apart."""
        lower = [name.lower() for name in self.schema.names]
        if any(lower.count(name.lower()) > 1 for name in columns):
            return False
        for group in range(self.metadata.num_row_groups):
            of_group = self.metadata.row_group(group)
            for number in range(of_group.num_columns):
                chunk = of_group.column(number)
                if chunk.path_in_schema.split(".")[0] in columns and (
                    chunk.compression not in _SPARK_CODECS
                    or not set(chunk.encodings) <= _SPARK_ENCODINGS
                    or chunk.physical_type == "INT96"
                ):
                    return False
        return True


def open_parquet(part: Part) -> ParquetFile:
    """The footer of a Parquet file. Raises `DataError` if it is damaged."""
    with named_errors(part), pq.ParquetFile(**arrow_source(path_of(part))) as file:
        about = file.metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        return ParquetFile(file.schema_arrow, about.num_rows, size / max(about.num_rows, 1), about)


def read_parquet(part: Part, wanted: Sequence[str]) -> Iterator[Batch]:
    """Batches of a Parquet file with the columns in use, and the number of each row, from 0."""
    about = open_parquet(part)
    size = int(min(MOST_ROWS, max(_BATCH_BYTES / max(about.row_bytes, 1), 64)))
    done = 0
    with named_errors(part), pq.ParquetFile(**arrow_source(path_of(part)), coerce_int96_timestamp_unit="us") as file:
        for batch in file.iter_batches(batch_size=size, columns=tops(wanted, about.schema.names)):
            table = pa.Table.from_batches([batch])
            yield table, pa.array(range(done, done + len(table)), pa.int64())
            done += len(table)


def has(schema: pa.Schema, name: str, exploded: str = "") -> bool:
    """Whether a table has a column, or one within it (`user.id`). A list that is exploded counts as its elements."""
    if name in schema.names:
        return True
    first, *rest = name.split(".")
    if not rest or first not in schema.names:
        return False
    kind, path = schema.field(schema.names.index(first)).type, first
    for inner in rest:
        kind = kind.value_type if path == exploded and is_list(kind) else kind
        if not pa.types.is_struct(kind) or kind.get_field_index(inner) < 0:
            return False
        kind, path = kind.field(kind.get_field_index(inner)).type, f"{path}.{inner}"
    return True


def tops(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns of a table that hold the wanted ones, which may be nested: `user.id` lies in `user`."""
    found = (name if name in names else name.split(".")[0] for name in wanted)
    return list(dict.fromkeys(name for name in found if name in names))


def nested(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A column of a table, or one within it (`user.id`). None if it is not there."""
    if name in table.schema.names:
        return table.column(table.schema.names.index(name))
    first = name
    while first not in table.schema.names:  # the longest name first: a list that was exploded has a dot in its own
        first = first.rpartition(".")[0]
        if not first:
            return None
    column = table.column(table.schema.names.index(first))
    for inner in filter(None, name[len(first) + 1 :].split(".")):
        if not pa.types.is_struct(column.type) or column.type.get_field_index(inner) < 0:
            return None
        column = pc.struct_field(column, inner)
    return column


def explode(table: pa.Table, rows: pa.Array, name: str, part: Part) -> tuple[pa.Table, pa.Array, int]:
    """One row for each element of a list column; rows whose list is empty or null give none, and are counted."""
    column = nested(table, name)
    column = column.combine_chunks() if column is not None else pa.nulls(len(table))
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if pa.types.is_null(column.type):
        return table.slice(0, 0), rows.slice(0, 0), len(rows)
    if not is_list(column.type):
        raise DataError(
            f"the column has type {column.type}, but data.yaml explodes a list.",
            file=part.path or part.name,
            column=name,
            remedy="correct explode in data.yaml; it must name a list.",
        )
    parents = pc.list_parent_indices(column)
    table, elements = table.take(parents), pc.list_flatten(column)
    place = table.schema.names.index(name) if name in table.schema.names else -1
    whole = table.set_column(place, name, elements) if place >= 0 else table.append_column(name, elements)
    return whole, rows.take(parents), len(rows) - pc.count_distinct(parents).as_py()


def two_of_one_name(part: Part, name: str) -> DataError:
    """For a table in which it is not clear which of two columns is meant."""
    return DataError(
        "the table has two columns of this name.",
        file=part.path or part.name,
        column=name,
        remedy="give each column a name of its own (a join in SQL often exports one key twice).",
    )


def path_of(part: Part) -> UPath:
    """Where a part lies that is no query."""
    assert part.path is not None
    return part.path


@contextmanager
def named_errors(part: Part) -> Iterator[None]:
    """Turn the errors of Arrow on a file into a `DataError` that names the file."""
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, NotImplementedError, LookupError) as error:  # the last three of Iceberg's
        raise DataError(
            f"the file cannot be read as {str(part.format).capitalize()} ({first_line(error)}).",
            file=part.path,
            remedy="write or copy the file again and compare its size.",
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error, for a message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
