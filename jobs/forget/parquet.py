"""Changes a few rows of Parquet files. Files without such rows are copied as they are; the others, one row group at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from jobs.base.places import arrow_source, files_below, local_draft


@dataclass(frozen=True)
class Change:
    """What to do with the rows of which a column has a given value.

    Attributes:
        column: name of the column.
        value: the value, or a list of values: texts or whole numbers. Texts are also found in a column of numbers.
        apply: gets these rows, and gives what shall stand in their place: as many rows, or none.
        where: a further column, and the text that it must hold; None for no such condition.
    """

    column: str
    value: Any
    apply: Callable[[pa.Table], pa.Table]
    where: tuple[str, str] | None = None

    def count(self, folder: UPath) -> int:
        """How many such rows there are in the Parquet files of a folder."""
        return sum(sum(self.rows_of(path)) for path in _parquet_files(folder))

    def rows_of(self, path: UPath) -> list[int]:
        """For each row group of a file, the number of such rows. Statistics of a group spare reading it where they can."""
        with pq.ParquetFile(**arrow_source(path)) as file:
            place = file.schema_arrow.get_field_index(self.column)
            if place < 0:
                return [0] * file.num_row_groups
            return [self._count(file, group) for group in range(file.num_row_groups)]

    def mask(self, rows: pa.Table) -> pa.ChunkedArray:
        """bool [rows], which of them are meant."""
        kind = pa.string() if isinstance(self._values[0], str) else pa.int64()
        found = pc.is_in(rows[self.column].cast(kind), value_set=pa.array(self._values, kind))
        return pc.and_(found, pc.equal(rows[self.where[0]], self.where[1])) if self.where else found

    @property
    def _values(self) -> list[Any]:
        return self.value if isinstance(self.value, list) else [self.value]

    def _count(self, file: pq.ParquetFile, group: int) -> int:
        about = file.metadata.row_group(group)
        chunks = (about.column(number) for number in range(about.num_columns))
        statistics = next((column.statistics for column in chunks if column.path_in_schema == self.column), None)
        # Bounds of texts may be cut short, so only those of numbers count.
        bounds = statistics is not None and statistics.has_min_max and (statistics.min, statistics.max)
        if bounds and isinstance(self._values[0], int) and not any(bounds[0] <= value <= bounds[1] for value in self._values):
            return 0
        columns = [self.column, self.where[0]] if self.where else [self.column]
        return pc.sum(self.mask(file.read_row_group(group, columns=columns))).as_py() or 0


def dropped(rows: pa.Table) -> pa.Table:
    """The rows are left out."""
    return rows.slice(0, 0)


def replaced(values: Mapping[str, Any]) -> Callable[[pa.Table], pa.Table]:
    """The rows stay, with other values in the columns named (those of them that there are)."""

    def change(rows: pa.Table) -> pa.Table:
        for name, value in values.items():
            if (place := rows.schema.get_field_index(name)) >= 0:
                field = rows.schema.field(place)
                rows = rows.set_column(place, field, pa.array([value] * rows.num_rows, field.type))
        return rows

    return change


def columns_of(folder: UPath) -> set[str]:
    """Names of the columns of the Parquet files in a folder; empty if it holds none."""
    names: set[str] = set()
    for path in _parquet_files(folder):
        with pq.ParquetFile(**arrow_source(path)) as file:
            names |= set(file.schema_arrow.names)
    return names


def rewrite_folder(source: UPath, target: UPath, change: Change) -> None:
    """Copy a folder, and change such rows in its Parquet files. Each row group stays one, unless no row of it is left."""
    for path in files_below(source):
        out = target / path.path[len(source.path.rstrip("/")) + 1 :]
        out.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet" and any(change.rows_of(path)):
            with local_draft(out) as draft:
                rewrite_file(path, Path(draft), change)
        else:
            path.fs.copy(path.path, out.path)


def rewrite_file(source: UPath, target: Path, change: Change) -> None:
    """Write a copy of a Parquet file with such rows changed."""
    with pq.ParquetFile(**arrow_source(source)) as file:
        groups = file.metadata
        compression = groups.row_group(0).column(0).compression if groups.num_row_groups else "SNAPPY"
        with pq.ParquetWriter(target, file.schema_arrow, compression=compression) as writer:
            for group in range(groups.num_row_groups):
                rows = _changed(file.read_row_group(group), change)
                if rows.num_rows:
                    writer.write_table(rows, row_group_size=rows.num_rows)


def _changed(rows: pa.Table, change: Change) -> pa.Table:
    """All rows of a group, the changed ones in their places."""
    mask = change.mask(rows)
    changed = change.apply(rows.filter(mask))
    if not changed.num_rows:
        return rows.filter(pc.invert(pc.fill_null(mask, False)))
    # The changed rows stand behind the others at first, and are then taken from there, each to its own place.
    order = np.arange(rows.num_rows)
    order[pc.fill_null(mask, False).to_numpy()] = rows.num_rows + np.arange(changed.num_rows)
    return pa.concat_tables([rows, changed]).take(pa.array(order)).combine_chunks()


def _parquet_files(folder: UPath) -> list[UPath]:
    return [path for path in files_below(folder) if path.suffix == ".parquet"]
