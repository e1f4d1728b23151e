"""Reads Delta and Iceberg tables through their own log, so that removed rows are never seen."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import children, uri_of
from jobs.landing.finding import Part
from jobs.landing.formats.typed_tables import MOST_ROWS, Batch, first_line, named_errors, path_of, tops
from jobs.landing.table_mapping import TableMapping

_MISREAD = frozenset("%\\")  # letters of a path that the reader of Delta takes for an escape, and for a slash


def open_delta(part: Part, mapping: TableMapping) -> tuple[Part, Any]:
    """A Delta table as of a version or time: the part with the version in its stamp, and an Arrow dataset.

    Raises:
        DataError: there is no such version, or the table uses a feature that its reader does not know.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    path = path_of(part)
    links = _linked(path) if isinstance(path, Path) and _MISREAD & set(str(path)) else None
    try:
        table = DeltaTable(links.name if links else uri_of(path), version=mapping.version)
        if mapping.as_of is not None:
            table.load_as_version(mapping.as_of)
        dataset = table.to_pyarrow_dataset()
        if links:
            weakref.finalize(dataset, links.cleanup)
    except (DeltaError, OSError, ValueError) as error:
        raise DataError(
            f"the Delta table cannot be read through its log ({first_line(error)}).",
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
    from pyiceberg.table import StaticTable

    path = path_of(part)
    metadata = _iceberg_metadata(path)
    known_errors: tuple[type[Exception], ...] = (*_iceberg_errors(), OSError, ValueError, KeyError)
    try:
        table = StaticTable.from_metadata(str(metadata) if isinstance(metadata, Path) else uri_of(metadata))
        _check_place(table.location(), path)
        if mapping.as_of is not None:
            snapshot = table.snapshot_as_of_timestamp(int(mapping.as_of.timestamp() * 1_000))
        else:
            snapshot = table.snapshot_by_id(mapping.version) if mapping.version is not None else table.current_snapshot()
        if snapshot is None:
            raise ValueError(f"there is no such snapshot; there are {[known.snapshot_id for known in table.snapshots()]}")
        scan = table.scan(snapshot_id=snapshot.snapshot_id)
    except known_errors as error:
        raise DataError(
            f"the Iceberg table cannot be read through its metadata ({first_line(error)}).",
            file=metadata,
            remedy="check version or as_of in data.yaml. If the table was moved, its metadata still name the old place.",
        ) from error
    named = f"{part.name} (Iceberg snapshot {snapshot.snapshot_id})"
    return replace(part, name=named, stamp=f"iceberg {snapshot.snapshot_id}"), scan


def read_log_table(part: Part, opened: Any, wanted: Sequence[str], names: Sequence[str]) -> Iterator[Batch]:
    """Batches of an opened Delta dataset or Iceberg scan, and the number of each row, from 0."""
    columns, done = tops(wanted, names), 0
    with named_errors(part):
        if hasattr(opened, "to_batches"):
            batches = opened.to_batches(columns=columns, batch_size=MOST_ROWS, use_threads=False)
        else:
            batches = opened.select(*columns).to_arrow_batch_reader()
        for batch in batches:
            yield pa.Table.from_batches([batch]), pa.array(range(done, done + len(batch)), pa.int64())
            done += len(batch)


def _linked(folder: Path) -> TemporaryDirectory[str]:
    """A folder of a plain name, whose files are links to those of another."""
    links = TemporaryDirectory(prefix="esans-delta-")
    for path in folder.rglob("*"):
        there = Path(links.name) / path.relative_to(folder)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.mkdir(exist_ok=True) if path.is_dir() else there.symlink_to(path)
    return links


def _iceberg_errors() -> tuple[type[Exception], ...]:
    """The errors of pyiceberg, which have no base of their own."""
    from pyiceberg import exceptions

    return tuple(kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _check_place(location: str, path: UPath) -> None:
    """A table that was copied still names its old place, and the rows there would be read in silence."""
    there = Path(location.removeprefix("file://").removeprefix("file:"))
    if isinstance(path, Path) and "://" not in str(there) and there.resolve() != path.resolve():
        raise ValueError(f"its metadata say that it lies in {location}")


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
