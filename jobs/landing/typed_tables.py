"""Reads tables whose columns have types: Parquet files, Delta and Iceberg through their own log, and queries."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import arrow_source, children, uri_of
from jobs.landing.finding import Part
from jobs.landing.mapping import TableMapping

_BATCH_BYTES, _MOST_ROWS = 64 * 2**20, 131_072
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
    with _named(part), pq.ParquetFile(**arrow_source(_path(part))) as file:
        about = file.metadata
        size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
        return ParquetFile(file.schema_arrow, about.num_rows, size / max(about.num_rows, 1), about)


def read_parquet(part: Part, wanted: Sequence[str]) -> Iterator[Batch]:
    """Batches of a Parquet file with the columns in use, and the number of each row, from 0."""
    about = open_parquet(part)
    size = int(min(_MOST_ROWS, max(_BATCH_BYTES / max(about.row_bytes, 1), 64)))
    done = 0
    with _named(part), pq.ParquetFile(**arrow_source(_path(part)), coerce_int96_timestamp_unit="us") as file:
        for batch in file.iter_batches(batch_size=size, columns=tops(wanted, about.schema.names)):
            table = pa.Table.from_batches([batch])
            yield table, pa.array(range(done, done + len(table)), pa.int64())
            done += len(table)


def open_delta(part: Part, mapping: TableMapping) -> tuple[Part, Any]:
    """A Delta table as of a version or time: the part with the version in its stamp, and an Arrow dataset.

    Raises:
        DataError: there is no such version, or the table uses a feature that its reader does not know.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    path = _path(part)
    try:
        table = DeltaTable(uri_of(path), version=mapping.version)
        if mapping.as_of is not None:
            table.load_as_version(mapping.as_of)
        dataset = table.to_pyarrow_dataset()
    except (DeltaError, OSError, ValueError) as error:
        raise DataError(
            f"the Delta table cannot be read through its log ({_first_line(error)}).",
            file=path,
            remedy="check version or as_of in data.yaml; else have its owner write it as plain Parquet.",
        ) from error
    return replace(part, name=f"{part.name} (Delta version {table.version()})", stamp=f"delta {table.version()}"), dataset


def open_iceberg(part: Part, mapping: TableMapping) -> tuple[Part, Any]:
    """An Iceberg table as of a snapshot or time: the part with the snapshot in its stamp, and the scan.

    The newest metadata file counts: the one that `version-hint.text` names, else that with the highest number.

    Raises:
        DataError: the metadata cannot be read, or there is no such snapshot.
    """
    from pyiceberg.exceptions import NoSuchTableError
    from pyiceberg.table import StaticTable

    path = _path(part)
    metadata = _iceberg_metadata(path)
    try:
        table = StaticTable.from_metadata(uri_of(metadata))
        if mapping.as_of is not None:
            snapshot = table.snapshot_as_of_timestamp(int(mapping.as_of.timestamp() * 1_000))
        else:
            snapshot = table.snapshot_by_id(mapping.version) if mapping.version is not None else table.current_snapshot()
        if snapshot is None:
            raise ValueError(f"there is no such snapshot; there are {[known.snapshot_id for known in table.snapshots()]}")
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
    except (NoSuchTableError, OSError, ValueError) as error:
        raise DataError(
            f"the Iceberg table cannot be read through its metadata ({_first_line(error)}).",
            file=metadata,
            remedy="check version or as_of in data.yaml. If the table was moved, its metadata still name the old place.",
        ) from error
    named = f"{part.name} (Iceberg snapshot {snapshot.snapshot_id})"
    return replace(part, name=named, stamp=f"iceberg {snapshot.snapshot_id}"), scan


def read_log_table(part: Part, opened: Any, wanted: Sequence[str], names: Sequence[str]) -> Iterator[Batch]:
    """Batches of an opened Delta dataset or Iceberg scan, and the number of each row, from 0."""
    columns, done = tops(wanted, names), 0
    with _named(part):
        if hasattr(opened, "to_batches"):
            batches = opened.to_batches(columns=columns, batch_size=_MOST_ROWS, use_threads=False)
        else:
            batches = opened.select(*columns).to_arrow_batch_reader()
        for batch in batches:
            yield pa.Table.from_batches([batch]), pa.array(range(done, done + len(batch)), pa.int64())
            done += len(batch)


def read_query(part: Part, mapping: TableMapping) -> Iterator[Batch]:
    """The rows of a SQL query, in parts, within a transaction that may only read.

    Raises:
        DataError: the database cannot be reached, or refuses the query.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    url = mapping.database.replace("postgresql://", "postgresql+psycopg://", 1)
    done = 0
    try:
        engine = create_engine(url)
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection = connection.execution_options(postgresql_readonly=True)
            result = connection.execution_options(stream_results=True, yield_per=50_000).execute(text(mapping.query))
            names = list(result.keys())
            for rows in result.partitions():
                columns = [_column(list(values)) for values in zip(*rows, strict=True)]
                yield pa.table(columns, names=names), pa.array(range(done, done + len(rows)), pa.int64())
                done += len(rows)
    except (SQLAlchemyError, ImportError) as error:
        raise DataError(
            f"the database does not answer the query ({_first_line(error)}).",
            file=part.name,
            remedy="check database and query in data.yaml; the password comes from PGPASSWORD or ~/.pgpass.",
        ) from error


def tops(wanted: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns of a table that hold the wanted ones, which may be nested: `user.id` lies in `user`."""
    found = (name if name in names else name.split(".")[0] for name in wanted)
    return list(dict.fromkeys(name for name in found if name in names))


def nested(table: pa.Table, name: str) -> pa.ChunkedArray | None:
    """A column of a table, or one within it (`user.id`). None if it is not there."""
    if name in table.schema.names:
        return table.column(table.schema.names.index(name))
    first, *rest = name.split(".")
    if not rest or first not in table.schema.names:
        return None
    column = table.column(first)
    for inner in rest:
        if not pa.types.is_struct(column.type) or column.type.get_field_index(inner) < 0:
            return None
        column = pc.struct_field(column, inner)
    return column


def explode(table: pa.Table, rows: pa.Array, name: str) -> Batch:
    """One row for each element of a list column; rows whose list is empty or null give none."""
    column = table.column(name).combine_chunks()
    parents = pc.list_parent_indices(column)
    place = table.schema.names.index(name)
    return table.take(parents).set_column(place, name, pc.list_flatten(column)), rows.take(parents)


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # mixed kinds, or one that Arrow does not know (UUID)
        return pa.array([None if value is None else str(value) for value in values])


def _iceberg_metadata(path: UPath) -> UPath:
    folder = path / "metadata"
    hint = folder / "version-hint.text"
    files = [file for file in children(folder) if file.name.endswith(".metadata.json")]
    if hint.exists():
        named = [file for file in files if file.name.lstrip("v").split(".")[0] == hint.read_text().strip()]
        if named:
            return named[0]

    def number(file: UPath) -> int:
        digits = file.name.lstrip("v").split("-")[0].split(".")[0]
        return int(digits) if digits.isdigit() else -1

    return max(files, key=lambda file: (number(file), file.name))


def _path(part: Part) -> UPath:
    assert part.path is not None
    return part.path


@contextmanager
def _named(part: Part) -> Iterator[None]:
    """Turn the errors of Arrow on a file into a `DataError` that names the file."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"the file cannot be read as {str(part.format).capitalize()} ({_first_line(error)}).",
            file=part.path,
            remedy="write or copy the file again and compare its size.",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
