"""Parquet files and Delta tables that once gave wrong rows, or a message that did not help."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from tests.jobs.landing.sources import (
    EXPECTED,
    LAST_DAY,
    catalogue,
    events,
    landing,
    last_day,
    log,
    refusal,
    rows,
    table_source,
)

LOG = pa.Table.from_pandas(log(), preserve_index=False)


def in_folder(folder: Path, table: str = "interactions") -> Path:
    """The folder of a table's parts, which replaces its file."""
    (table_source(folder) / f"{table}.parquet").unlink()
    (folder / f"{table}.parquet").mkdir()
    return folder / f"{table}.parquet"


def test_int96_as_spark_writes_it(settings, tmp_path: Path) -> None:
    zoned = LOG.set_column(2, "timestamp", LOG["timestamp"].cast(pa.timestamp("s")).cast(pa.timestamp("us")))
    folder = table_source(tmp_path, zoned, use_deprecated_int96_timestamps=True)
    assert pq.ParquetFile(folder / "interactions.parquet").schema.column(2).physical_type == "INT96"
    assert last_day(settings, folder) == LAST_DAY
    assert events(settings, folder) == EXPECTED


def test_a_delta_table_shows_no_removed_row(settings, tmp_path: Path) -> None:
    parts = in_folder(tmp_path)
    write_deltalake(parts, LOG)
    DeltaTable(parts).delete("user_id = 3")
    assert len(list(parts.glob("*.parquet"))) == 2, "the old file is there until VACUUM"
    assert events(settings, tmp_path) == [row for row in EXPECTED if row[0] != "3"]
    assert last_day(settings, tmp_path) == LAST_DAY
    (part,) = landing(settings, tmp_path).tables["interactions"].parts
    assert part.name == "interactions.parquet (Delta version 1)"


def test_a_delta_table_of_day_files_of_which_one_was_written_again(settings, tmp_path: Path) -> None:
    parts = in_folder(tmp_path)
    for _, day in log().groupby(log()["timestamp"] // 86_400):
        write_deltalake(parts, pa.Table.from_pandas(day, preserve_index=False), mode="append")
    DeltaTable(parts).delete("user_id = 3 and timestamp < 1768565000")  # of the first two days
    kept = [row for row in EXPECTED if not (row[0] == "3" and row[2] < 1_768_565_000)]
    assert len(kept) < len(EXPECTED)
    assert sorted(events(settings, tmp_path)) == sorted(kept)


def test_companion_files_of_macos_are_no_data(settings, tmp_path: Path) -> None:
    parts = in_folder(tmp_path)
    pq.write_table(LOG, parts / "part-0.parquet")
    (parts / "._part-0.parquet").write_bytes(b"\0\5\26\7 Mac OS X")
    assert events(settings, tmp_path) == [(int(user), int(item), time) for user, item, time in EXPECTED]
    assert last_day(settings, tmp_path) == LAST_DAY
    (left_out,) = landing(settings, tmp_path).tables["interactions"].left_out
    assert left_out == ("interactions.parquet/._part-0.parquet", "a companion file of macOS")


def test_an_optional_column_is_empty_in_one_part(settings, tmp_path: Path) -> None:
    parts = in_folder(tmp_path, "items")
    whole = pa.Table.from_pandas(catalogue(), preserve_index=False)
    pq.write_table(whole.slice(0, 30), parts / "part-0.parquet")
    pq.write_table(whole.slice(30).set_column(2, "text", pa.nulls(30)), parts / "part-1.parquet")
    first, second = landing(settings, tmp_path).tables["items"].parts
    assert (first.rows, first.missing, second.rows, second.missing) == (30, {}, 30, {"text": 30})


def test_a_rating_in_one_byte(settings, tmp_path: Path) -> None:
    rated = LOG.append_column("rating", pa.array([row % 6 for row in range(len(LOG))], pa.uint8()))
    found = rows(landing(settings, table_source(tmp_path, rated)).tables["interactions"])
    assert [row["rating"] for row in found] == [float(row % 6) for row in range(len(LOG))]
    assert [(row["user_id"], row["item_id"], row["timestamp"]) for row in found] == EXPECTED


def test_brotli(settings, tmp_path: Path) -> None:
    folder = table_source(tmp_path, LOG, compression="brotli")
    assert events(settings, folder) == EXPECTED
    assert last_day(settings, folder) == LAST_DAY
    assert landing(settings, folder).tables["interactions"].parts[0].written


def test_part_files_with_odd_names(settings, tmp_path: Path) -> None:
    parts = in_folder(tmp_path)
    names = ["part#4?.parquet", "part[0].parquet", "part{2,3}.parquet", "päärt 1%20.parquet", "part*.parquet", "a+b=c.parquet"]
    for number, name in enumerate(names):
        pq.write_table(LOG.slice(number * 100, 100), parts / name)
    found = [(str(user), str(item), time) for user, item, time in events(settings, tmp_path)]
    assert sorted(found) == sorted(EXPECTED)
    assert last_day(settings, tmp_path) == LAST_DAY


def test_letters_that_are_not_utf8_in_a_string_column(settings, tmp_path: Path) -> None:
    texts = [f"Grün {row}".encode("latin-1") if row % 5 == 4 else f"Red {row}".encode() for row in range(60)]
    items = pa.Table.from_pandas(catalogue(), preserve_index=False)
    broken = pa.Array.from_buffers(pa.string(), 60, pa.array(texts, pa.binary()).buffers())
    folder = table_source(tmp_path, items=items.set_column(1, "title", broken))
    error = refusal(settings, folder)
    assert (error.file, error.column, error.rows) == (folder / "items.parquet", "title", ("4",))
    assert "row 4 is not UTF-8: b'Gr\\xfcn 4'" in error.problem and "UTF-8" in error.remedy


def test_the_index_of_pandas_is_no_column(settings, tmp_path: Path) -> None:
    folder = table_source(tmp_path)
    log().set_index(pd.Index(range(560), name="row")).to_parquet(folder / "interactions.parquet")
    assert last_day(settings, folder) == LAST_DAY
