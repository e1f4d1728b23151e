"""Logs that count from a start of their own, that only tell an order, or that tell neither."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from jobs.base.errors import DataError
from tests.jobs.landing.sources import csv_source, landing, last_day, log, refusal, table_source, times, with_mapping

START = int(dt.datetime(2020, 1, 1, tzinfo=dt.UTC).timestamp())
ORIGIN = "interactions: {timestamp_origin: 2020-01-01"
COUNTED = pa.table({"user_id": [1, 1, 2], "item_id": [5, 6, 5], "timestamp": pa.array([0, 3, None], pa.int32())})


@pytest.mark.parametrize(
    ("unit", "seconds"), [("s", 3), ("ms", 0), ("min", 180), ("h", 10_800), ("d", 259_200), (None, 3)], ids=str
)
def test_numbers_count_from_an_origin(settings, tmp_path: Path, unit: str | None, seconds: int) -> None:
    text = ORIGIN + (f", timestamp_unit: {unit}}}" if unit else "}")
    for number, kind in enumerate((pa.int32(), pa.float64(), pa.string(), pa.decimal128(25, 0))):
        column = COUNTED["timestamp"].cast(pa.int64()).cast(kind)
        folder = table_source(tmp_path / str(number), COUNTED.set_column(2, "timestamp", column))
        assert times(settings, with_mapping(folder, text)) == [START, START + seconds, None]


def test_a_unit_longer_than_a_second_needs_no_origin(settings, tmp_path: Path) -> None:
    table = pa.table({"user_id": [1, 1, 1], "item_id": [5, 6, 7], "timestamp": [20_000, 20_000.5, 1e300]})
    folder = with_mapping(table_source(tmp_path / "floats", table), "interactions: {timestamp_unit: d}")
    assert times(settings, folder) == [20_000 * 86_400, 20_000 * 86_400 + 43_200, None]
    table = table.set_column(2, "timestamp", pa.array([20_000, 2**62, -(2**63)]))
    folder = with_mapping(table_source(tmp_path / "whole", table), "interactions: {timestamp_unit: d}")
    assert times(settings, folder) == [20_000 * 86_400, None, None], "a product beyond 64 bits is no time"


def test_an_origin_may_name_its_offset(settings, tmp_path: Path) -> None:
    folder = with_mapping(table_source(tmp_path, COUNTED), "interactions: {timestamp_origin: 2020-01-01T02:00:00+02:00}")
    assert times(settings, folder)[0] == START


def test_the_order_of_each_user_stands_for_the_time(settings, tmp_path: Path) -> None:
    frame = log().drop(columns="timestamp").assign(order=log().groupby("user_id").cumcount())
    folder = csv_source(tmp_path, frame)
    error = refusal(settings, folder)
    assert error.column == "timestamp" and "a column is missing" in error.problem
    with_mapping(folder, "interactions:\n  columns: {timestamp: order}\n  timestamp_origin: 2020-01-01")
    assert times(settings, folder) == [START + place for place in frame["order"]]
    assert last_day(settings, folder) == dt.date(2020, 1, 1)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_order_of_the_rows_stands_for_the_time(settings, tmp_path: Path, form: str) -> None:
    frame = log().drop(columns="timestamp")
    folder = csv_source(tmp_path, frame)
    if form == "parquet":
        (folder / "interactions.csv").unlink()
        frame.to_parquet(folder / "interactions.parquet")
    with_mapping(folder, ORIGIN + ", rows_in_order: true}")
    found = times(settings, folder)
    first = 2 if form == "csv" else 0  # the number of the line, of which the first is the header
    assert found == [START + row for row in range(first, first + len(frame))]


def test_rows_of_several_files_have_no_order(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path)
    (folder / "interactions.csv").rename(folder / "a.csv")
    (folder / "interactions").mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / "interactions" / name).write_bytes((folder / "a.csv").read_bytes())
    error = refusal(settings, with_mapping(folder, ORIGIN + ", rows_in_order: true}"))
    assert "2 files" in error.problem and "one file" in error.remedy


def test_a_log_without_times_and_order_gets_one_moment(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path, log().drop(columns="timestamp"))
    with_mapping(folder, "interactions: {constants: {timestamp: 2020-01-01}}")
    assert set(times(settings, folder)) == {START}


def test_dates_in_the_mapping_are_texts_as_in_the_file(settings, tmp_path: Path) -> None:
    frame = log().assign(day=pd.to_datetime(log()["timestamp"], unit="s").dt.strftime("%Y-%m-%d"))
    folder = with_mapping(csv_source(tmp_path, frame), "interactions: {where: {day: [2026-01-28]}}")
    assert len(times(settings, folder)) == 40


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (ORIGIN + ", timestamp_format: '%Y'}", "give one of them"),
        ("interactions: {rows_in_order: true}", "needs timestamp_origin"),
        (ORIGIN + ", rows_in_order: true, columns: {timestamp: at}}", "no other source of timestamp"),
        ("items: {timestamp_origin: 2020-01-01, rows_in_order: true}", "only interactions have an order"),
        ("interactions: {timestamp_origin: soon}", "timestamp_origin"),
        ("interactions: {timestamp_unit: w}", "timestamp_unit"),
    ],
)
def test_a_mapping_that_contradicts_itself(settings, tmp_path: Path, text: str, why: str) -> None:
    assert why in refusal(settings, with_mapping(csv_source(tmp_path), text)).problem


def test_times_are_no_numbers_that_count(settings, tmp_path: Path) -> None:
    for number, kind in enumerate((pa.timestamp("us"), pa.date32())):
        column = pa.array([0, 1, 2], pa.int32()).cast(pa.date32()).cast(kind)
        folder = table_source(tmp_path / str(number), COUNTED.set_column(2, "timestamp", column))
        error = refusal(settings, with_mapping(folder, ORIGIN + "}"))
        assert error.column == "timestamp" and "take timestamp_origin out" in error.remedy


@pytest.mark.parametrize(
    ("values", "mapping", "problem", "remedy"),
    [
        ([0, 1, 2], "", "in no unit", "timestamp_origin: 2020-01-01"),
        ([20260127, 20260128, 20260128], "", "look like dates, such as 2026012", "timestamp_format: '%Y%m%d'"),
        ([5, 6, 7], "interactions: {timestamp_origin: 1899-12-30, timestamp_unit: d}", "", ""),
        (
            [5, 6, 7],
            "interactions: {timestamp_origin: 1970-01-01}",
            "Counted from 1970-01-01 in 's'",
            "correct timestamp_origin",
        ),
        ([1_769_601] * 3, "interactions: {timestamp_unit: s}", "Read as 's', it lies outside", "timestamp_origin"),
    ],
)
def test_without_a_date_the_cause_is_told(
    settings, tmp_path: Path, values: list[int], mapping: str, problem: str, remedy: str
) -> None:
    folder = with_mapping(table_source(tmp_path, COUNTED.set_column(2, "timestamp", pa.array(values))), mapping)
    if not problem:  # before 1970, so no day counts
        problem, remedy = "there is no event between 1970", "state the unit"
    with pytest.raises(DataError) as caught:
        last_day(settings, folder)
    assert problem in caught.value.problem and remedy in caught.value.remedy
    assert landing(settings, folder).tables["interactions"].rows == 3
