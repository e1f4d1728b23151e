"""Times in every form: each value gives the second that it means, or is counted as unreadable."""

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.base.errors import DataError
from tests.jobs.landing.sources import LAST_DAY, csv_source, landing, last_day, log, refusal, table_source, times, with_mapping

NOON = 1_769_601_600  # 2026-01-28 12:00 UTC
YEAR_1, YEAR_9999 = -62_135_596_800, 253_402_214_400


def texts_as_times(settings, folder: Path, texts: list[str], mapping: str = "") -> list[int | None]:
    frame = pd.DataFrame({"user_id": 1, "item_id": 2, "timestamp": texts})
    return times(settings, with_mapping(csv_source(folder, frame), mapping))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-28T12:00:00Z", NOON),
        ("2026-01-28T12:00:00z", NOON),
        ("2026-01-28 12:00:00", NOON),
        ("2026-01-28 12:00", NOON),
        ("2026-01-28T12:00:00.999999999", NOON),
        ("2026-01-28 12:00:00.5 UTC", NOON),
        ("2026-01-28 12:00:00 GMT", NOON),
        ("2026-01-28 14:00:00+02:00", NOON),
        ("2026-01-28 14:00:00+0200", NOON),
        ("2026-01-28 14:00:00 +02:00", NOON),
        ("2026-01-28T07:00:00.123-05:00", NOON),
        (" 2026-01-28 12:00:00 ", NOON),
        ("2026-01-28", NOON - 43_200),
        ("20260128T120000", NOON),
        (str(NOON), NOON),
        (f" +{NOON} ", NOON),
        (f"{NOON}.75", NOON),
        ("1.7696016e9", NOON),
        ("1969-12-31 23:59:59.5", -1),
        ("-1.5", -2),
        ("0001-01-01", YEAR_1),
        ("0001-01-01 00:00:00", YEAR_1),
        ("9999-12-31", YEAR_9999),
        ("9999-12-31T00:00:00Z", YEAR_9999),
        ("9999-12-31 02:00:00+02:00", YEAR_9999),
        ("28.01.2026", None),
        ("01/28/2026 12:00", None),
        ("2026-02-30", None),
        ("2026-01-28 25:00:00", None),
        ("0000-00-00", None),
        ("yesterday", None),
        ("inf", None),
        ("1e400", None),
        ("9" * 40, None),
        ("12345678901234567890123", None),
    ],
)
def test_one_text(settings, tmp_path: Path, text: str, seconds: int | None) -> None:
    assert texts_as_times(settings, tmp_path, [text, str(NOON)]) == [seconds, NOON]
    (part,) = landing(settings, tmp_path).tables["interactions"].parts
    unreadable = [told for told in part.told if "one value of timestamp cannot be read" in told]
    assert bool(unreadable) == (seconds is None) and part.missing == ({"timestamp": 1} if seconds is None else {})


def test_all_forms_in_one_column(settings, tmp_path: Path) -> None:
    texts = ["2026-01-28T12:00:00Z", "2026-01-28 12:00", str(NOON), f"{NOON}.5", "2026-01-28 14:00:00+02:00", "9999-12-31", ""]
    assert texts_as_times(settings, tmp_path, texts) == [NOON, NOON, NOON, NOON, NOON, YEAR_9999, None]


def test_a_zone_holds_for_times_that_name_none(settings, tmp_path: Path) -> None:
    texts = [
        "2026-01-28 13:00:00",
        "2026-01-28T12:00:00Z",
        "2026-01-28 14:00:00+02:00",
        str(NOON),
        "2026-07-28 12:00",
        "2026-01-28",
    ]
    summer = int(dt.datetime(2026, 7, 28, 10, tzinfo=dt.UTC).timestamp())
    found = texts_as_times(settings, tmp_path, texts, "interactions: {timezone: Europe/Berlin}\n")
    assert found == [NOON, NOON, NOON, NOON, summer, NOON - 43_200 - 3_600]
    late = texts_as_times(
        settings, tmp_path, ["2026-10-25 02:30", "2026-03-29 02:30"], "interactions: {timezone: Europe/Berlin}\n"
    )
    assert late == [int(dt.datetime(2026, 10, 25, 0, 30, tzinfo=dt.UTC).timestamp()), 1_774_746_000]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%d/%m/%Y %H:%M", "28/01/2026 12:00"),
        ("%Y%m%d%H", "2026012812"),
        ("%d %b %Y %H:%M UTC", "28 Jan 2026 12:00 UTC"),
        ("%a %b %d %H:%M:%S %z %Y", "Wed Jan 28 14:00:00 +0200 2026"),
        ("%m/%d/%y %I:%M %p", "01/28/26 12:00 PM"),
    ],
)
def test_a_form_of_its_own(settings, tmp_path: Path, form: str, text: str) -> None:
    found = texts_as_times(settings, tmp_path, [text, "something"], f"interactions: {{timestamp_format: '{form}'}}\n")
    assert found == [NOON, None]


def test_numbers_that_a_form_reads(settings, tmp_path: Path) -> None:
    table = pa.table({"user_id": [1, 2], "item_id": [1, 2], "timestamp": [20260128, 20260129]})
    folder = with_mapping(table_source(tmp_path, table), "interactions: {timestamp_format: '%Y%m%d'}\n")
    assert times(settings, folder) == [NOON - 43_200, NOON + 43_200]
    assert (
        "no form that strptime takes"
        in refusal(settings, with_mapping(folder, "interactions: {timestamp_format: '%Q'}\n")).problem
    )


@pytest.mark.parametrize(("unit", "per"), [("ms", 1_000), ("us", 1_000_000), ("ns", 1_000_000_000)])
def test_the_last_part_of_a_second_never_rounds_up(settings, tmp_path: Path, unit: str, per: int) -> None:
    last = NOON * per + per - 1
    assert texts_as_times(settings, tmp_path / "text", [str(last)], f"interactions: {{timestamp_unit: {unit}}}\n") == [NOON]
    for kind in (pa.int64(), pa.uint64(), pa.decimal128(38, 0)):
        table = pa.table({"user_id": [1], "item_id": [1], "timestamp": pa.array([last], pa.int64()).cast(kind)})
        folder = with_mapping(table_source(tmp_path / str(kind), table), f"interactions: {{timestamp_unit: {unit}}}\n")
        assert times(settings, folder) == [NOON]


def test_milliseconds_in_some_rows_are_not_lost(settings, tmp_path: Path) -> None:
    frame = log()
    frame.loc[frame.index[:50], "timestamp"] *= 1_000
    found = times(settings, csv_source(tmp_path, frame))
    assert found == frame["timestamp"].tolist(), "ingest sets them aside, as in the future"
    assert last_day(settings, tmp_path) == LAST_DAY


TYPES = [
    *(pa.timestamp(unit, zone) for unit in ("s", "ms", "us", "ns") for zone in (None, "UTC", "Europe/Berlin", "+05:30")),
    *(pa.int64(), pa.uint64(), pa.uint32(), pa.float64(), pa.decimal128(25, 3), pa.decimal128(20, 0)),
    *(pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())),
]


@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_types_of_parquet(settings, tmp_path: Path, kind: pa.DataType) -> None:
    seconds = pa.array([NOON, None, NOON + 86_399], pa.int64())
    column = (
        seconds.cast(pa.timestamp("s", "UTC")).cast(kind)
        if pa.types.is_timestamp(kind)
        else seconds.cast(pa.string() if pa.types.is_dictionary(kind) else kind)
    )
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column
    table = pa.table({"user_id": ["a", "b", "c"], "item_id": [1, 2, 3], "timestamp": column})
    folder = table_source(tmp_path, table)
    (part,) = landing(settings, folder).tables["interactions"].parts
    assert part.days == {"2026-01-28": 1, "2026-01-29": 1} and part.missing == {"timestamp": 1}
    if part.written:
        assert times(settings, folder) == [NOON, None, NOON + 86_399]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()], ids=str)
def test_dates_of_parquet(settings, tmp_path: Path, kind: pa.DataType) -> None:
    days = pa.array([dt.date(1, 1, 1), dt.date(2026, 1, 28), dt.date(9999, 12, 31), None], kind)
    folder = table_source(tmp_path, pa.table({"user_id": [1] * 4, "item_id": [1] * 4, "timestamp": days}))
    assert times(settings, folder) == [YEAR_1, NOON - 43_200, YEAR_9999, None]
    assert last_day(settings, folder) == LAST_DAY


@pytest.mark.parametrize(
    "kind", [pa.bool_(), pa.time32("s"), pa.duration("s"), pa.list_(pa.int64()), pa.struct([("a", pa.int64())])]
)
def test_types_that_hold_no_times(settings, tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"user_id": [1], "item_id": [1], "timestamp": pa.array([None], kind)})
    error = refusal(settings, table_source(tmp_path, table))
    assert error.column == "timestamp" and "from which no timestamp can be made" in error.problem


def test_parts_with_times_of_many_types(settings, tmp_path: Path) -> None:
    folder = table_source(tmp_path)
    (folder / "interactions.parquet").unlink()
    (folder / "interactions.parquet").mkdir()
    for number, kind in enumerate(kind for kind in TYPES if pa.types.is_timestamp(kind)):
        column = pa.array([NOON], pa.int64()).cast(pa.timestamp("s", "UTC")).cast(kind)
        part = pa.table({"timestamp": column, "item_id": [number], "user_id": ["a"]})
        pq.write_table(
            part, folder / "interactions.parquet" / f"{number:02d}.parquet", use_deprecated_int96_timestamps=number == 3
        )
    found = landing(settings, folder).tables["interactions"]
    assert found.days == {"2026-01-28": 16} and found.rows == 16


def test_half_floats_and_not_a_number(settings, tmp_path: Path) -> None:
    numbers = np.array([float(NOON), np.nan, np.inf, NOON + 0.9])
    folder = table_source(tmp_path, pa.table({"user_id": [1] * 4, "item_id": [1] * 4, "timestamp": numbers}))
    assert times(settings, folder) == [NOON, None, None, NOON]


@pytest.mark.parametrize("text", ["2026-01-28 12:00:00 EST", "28/01/2026 12:00", "Wed, 28 Jan 2026 12:00:00 GMT"])
def test_a_form_that_is_not_known_is_shown(settings, tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError) as caught:
        last_day(settings, csv_source(tmp_path, log().assign(timestamp=text)))
    assert f"560 values of timestamp cannot be read, such as '{text}'" in caught.value.problem
    assert "timestamp_format: " in caught.value.remedy and "timestamp_unit" not in caught.value.remedy
