"""Tables with one row for each item, read as a stream in the order of the catalogue.

A reader holds one batch in memory, however many items there are.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import arrow_source, files_below, place, uri_of
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake

_BATCH_ROWS = 8192  # 4 MB for a column of vectors with 128 values
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class ItemTable:
    """One date of a table of items. The object is small: it can be sent to a worker, which then reads its part by itself.

    Attributes:
        name: of the lake table.
        row_groups: (URI of a Parquet file, number in the file, rows) of each row group, in the order of the rows.
    """

    name: str
    row_groups: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, settings: PipelineSettings, name: str, date: dt.date | None = None) -> "ItemTable":
        """The table as published for a date (default: the logical date). Raises `DataError` if it is not published."""
        return cls.at(name, Lake.of(settings).path(name, date or settings.date))

    @classmethod
    def at(cls, name: str, folder: UPath) -> "ItemTable":
        """The table whose files, sorted by name, lie in a folder."""
        groups = []
        for path in files_below(folder):
            if path.suffix == ".parquet":
                about = pq.ParquetFile(**arrow_source(path)).metadata
                groups += [(uri_of(path), group, about.row_group(group).num_rows) for group in range(about.num_row_groups)]
        return cls(name, tuple(groups))

    @property
    def num_rows(self) -> int:
        """N, the number of items."""
        return sum(rows for _, _, rows in self.row_groups)

    def spans(self, least_rows: int) -> list[tuple[int, int]]:
        """Runs of whole row groups as (first row, row after the last). Each but the last has at least `least_rows` rows."""
        out, start, stop = [], 0, 0
        for _, _, rows in self.row_groups:
            stop += rows
            if stop - start >= least_rows or (stop == self.num_rows and stop > start):
                out.append((start, stop))
                start = stop
        return out

    def batches(
        self, columns: Sequence[str], *, start: int = 0, stop: int | None = None, batch_rows: int = _BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """`item_index` and other columns of the rows from `start` to `stop`, in batches of `batch_rows`, across row groups.

        Raises:
            DataError: some row i is not about item i.
        """
        wanted = ["item_index", *columns]
        pieces: list[pa.RecordBatch] = []
        first = start
        for piece in self._pieces(wanted, start, self.num_rows if stop is None else stop, batch_rows):
            while piece.num_rows:
                taken = piece.slice(0, batch_rows - sum(held.num_rows for held in pieces))
                pieces.append(taken)
                piece = piece.slice(taken.num_rows)
                if sum(held.num_rows for held in pieces) == batch_rows:
                    yield self._joined(pieces, first)
                    pieces, first = [], first + batch_rows
        if pieces:
            yield self._joined(pieces, first)

    def _pieces(self, columns: list[str], start: int, stop: int, batch_rows: int) -> Iterator[pa.RecordBatch]:
        end, wanted = 0, []
        for file, group, rows in self.row_groups:
            end += rows
            if start < end and end - rows < stop:
                wanted.append((file, group, end - rows))
        for file, groups in groupby(wanted, key=lambda group: group[0]):
            inside = list(groups)
            at = inside[0][2]
            # A small buffer and one thread: by default, Arrow holds whole row groups and uses every core.
            with pq.ParquetFile(**arrow_source(place(file)), pre_buffer=False, buffer_size=_BUFFER_BYTES) as parquet:
                numbers = [group for _, group, _ in inside]
                for piece in parquet.iter_batches(batch_rows, numbers, columns, use_threads=False):
                    low, high = max(start - at, 0), min(stop - at, piece.num_rows)
                    at += piece.num_rows
                    if low < high:
                        yield piece.slice(low, high - low).select(columns)

    def _joined(self, pieces: list[pa.RecordBatch], first: int) -> pa.RecordBatch:
        batch = pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
        index = batch["item_index"].to_numpy(zero_copy_only=False)
        wrong = np.flatnonzero(index != np.arange(first, first + len(index)))
        if len(wrong):
            raise DataError(
                f"expected the items 0, 1, 2 and so on, a row each; row {first + wrong[0]} is about item {index[wrong[0]]}.",
                file=self.name,
                column="item_index",
                remedy="run the job that writes this table again for the date.",
            )
        return batch
