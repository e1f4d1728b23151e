"""Streams of item tables over files and row groups of any size."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from upath import UPath

from jobs.base.errors import DataError
from jobs.lake.item_tables import ItemTable


def write(folder: Path, index: np.ndarray, *, file_rows: int, group_rows: int) -> ItemTable:
    for number, start in enumerate(range(0, len(index), file_rows)):
        part = index[start : start + file_rows]
        vectors = [None if item % 7 == 0 else [float(item), -1.0] for item in part]
        table = pa.table({"vector": pa.array(vectors, pa.list_(pa.float32())), "item_index": part})
        pq.write_table(table, folder / f"part-{number:05d}.parquet", row_group_size=group_rows)
    return ItemTable.at("some_table", UPath(folder))


@pytest.mark.parametrize(("file_rows", "group_rows"), [(100, 100), (100, 7), (40, 16), (9, 4)])
@pytest.mark.parametrize(("start", "stop", "batch_rows"), [(0, None, 10), (0, None, 1000), (13, 58, 8), (40, 41, 3), (5, 5, 8)])
def test_batches_do_not_depend_on_files_and_row_groups(
    tmp_path: Path, file_rows: int, group_rows: int, start: int, stop: int | None, batch_rows: int
) -> None:
    table = write(tmp_path, np.arange(100), file_rows=file_rows, group_rows=group_rows)
    assert table.num_rows == 100
    batches = list(table.batches(["vector"], start=start, stop=stop, batch_rows=batch_rows))
    rows = list(range(100))[start:stop]
    assert [batch.num_rows for batch in batches] == [len(rows[at : at + batch_rows]) for at in range(0, len(rows), batch_rows)]
    assert [item for batch in batches for item in batch["item_index"].to_pylist()] == rows
    vectors = [vector for batch in batches for vector in batch["vector"].to_pylist()]
    assert vectors == [None if item % 7 == 0 else [float(item), -1.0] for item in rows]


def test_spans_are_whole_row_groups_and_cover_the_table(tmp_path: Path) -> None:
    table = write(tmp_path, np.arange(100), file_rows=40, group_rows=16)  # groups of 16, 16, 8, 16, 16, 8, 16, 4
    assert table.spans(1)[:3] == [(0, 16), (16, 32), (32, 40)]
    assert table.spans(30) == [(0, 32), (32, 72), (72, 100)]
    assert table.spans(1000) == [(0, 100)]
    assert ItemTable("nothing", ()).spans(10) == [] and list(ItemTable("nothing", ()).batches([])) == []


@pytest.mark.parametrize("index", [[0, 1, 3, 4], [0, 2, 1, 3], [1, 2, 3, 4], [0, 1, 1, 2]])
def test_rows_that_are_not_the_catalogue_are_refused(tmp_path: Path, index: list[int]) -> None:
    table = write(tmp_path, np.array(index), file_rows=100, group_rows=3)
    with pytest.raises(DataError, match="some_table, column 'item_index': expected the items 0, 1, 2.*is about item"):
        list(table.batches(["vector"]))
