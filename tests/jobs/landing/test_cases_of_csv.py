"""CSV files that once gave wrong numbers, or a message that did not help."""

import datetime as dt
from pathlib import Path

import pandas as pd

from tests.jobs.landing.sources import (
    EXPECTED,
    LAST_DAY,
    catalogue,
    csv_source,
    events,
    landing,
    last_day,
    log,
    refusal,
    rows,
    table_source,
)


def in_latin1(folder: Path, name: str, frame: pd.DataFrame) -> None:
    (folder / name).write_bytes(frame.to_csv(index=False).encode("latin-1"))


def test_latin1_deep_in_the_log_never_makes_one_of_two_ids(settings, tmp_path: Path) -> None:
    plain = pd.concat([log(1_000, 1)] * 12, ignore_index=True).astype({"user_id": str, "item_id": str})
    late = pd.DataFrame({"user_id": ["a", "b"], "item_id": ["ä1", "ö1"], "timestamp": log()["timestamp"].iloc[-1]})
    folder = csv_source(tmp_path)
    in_latin1(folder, "interactions.csv", pd.concat([plain, late]))
    assert (folder / "interactions.csv").stat().st_size > 100_000
    error = refusal(settings, folder)
    assert error.file == folder / "interactions.csv" and error.rows == ("12002",)
    assert "line 12002 is not UTF-8: b'a,\\xe41," in error.problem
    assert "encoding: cp1252" in error.remedy
    (folder / "data.yaml").write_text("interactions: {encoding: cp1252}\n")
    assert [row[1] for row in events(settings, folder)[-2:]] == ["ä1", "ö1"]


def test_latin1_deep_in_the_titles(settings, tmp_path: Path) -> None:
    filler = pd.DataFrame({"item_id": [f"p{row}" for row in range(3_000)], "title": "filler", "text": "plain words " * 4})
    late = catalogue().assign(title=[f"Grün für {row}" for row in range(60)])
    folder = csv_source(tmp_path)
    in_latin1(folder, "items.csv", pd.concat([filler, late]))
    error = refusal(settings, folder)
    assert error.file == folder / "items.csv" and error.rows == ("3002",)
    assert "is not UTF-8" in error.problem and "cp1252" in error.remedy


def test_a_quote_that_is_never_closed_near_the_end(settings, tmp_path: Path) -> None:
    lines = ["item_id,title,text"] + [f"{100 + row},thing {row},a plain text" for row in range(3_060)]
    lines[2_901] = '3000,"17 inch screen,a plain text'
    folder = csv_source(tmp_path)
    (folder / "items.csv").write_text("\n".join(lines) + "\n")
    error = refusal(settings, folder)
    assert error.file == folder / "items.csv" and error.rows == ("2902",)
    assert "never closed" in error.problem and '""' in error.remedy


def test_words_for_nothing_are_no_user(settings, tmp_path: Path) -> None:
    frame = log().astype({"user_id": object})
    frame.loc[frame.index[::35], "user_id"] = ["nan", "None", "NULL", "NA"] * 4
    found = landing(settings, csv_source(tmp_path, frame)).tables["interactions"]
    (part,) = found.parts
    assert (part.rows_in, part.rows, part.missing) == (560, 560, {"user_id": 16})
    assert part.told == ["16 values of user_id were words such as nan, None or NULL; they count as missing."]
    assert sum(row["user_id"] is None for row in rows(found)) == 16


def test_two_columns_of_one_name(settings, tmp_path: Path) -> None:
    frame = log()
    twice = pd.concat([frame, frame["item_id"]], axis=1)
    folder = csv_source(tmp_path, twice)
    error = refusal(settings, folder)
    assert (error.file, error.column) == (folder / "interactions.csv", "item_id")
    assert "2 times (columns 2 and 4)" in error.problem and "name of its own" in error.remedy


def test_times_as_bigquery_writes_them(settings, tmp_path: Path) -> None:
    frame = log()
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s").dt.strftime("%Y-%m-%d %H:%M:%S UTC")
    folder = csv_source(tmp_path, frame)
    assert events(settings, folder) == EXPECTED
    assert last_day(settings, folder) == LAST_DAY


def test_times_get_a_fraction_after_a_megabyte(settings, tmp_path: Path) -> None:
    frame = pd.concat([log()] * 120, ignore_index=True)
    frame["timestamp"] = frame["timestamp"].astype(str)
    frame.loc[frame.index[-560:], "timestamp"] += ".75"
    folder = csv_source(tmp_path, frame)
    assert (folder / "interactions.csv").stat().st_size > 2**20
    assert events(settings, folder) == EXPECTED * 120
    assert last_day(settings, folder) == LAST_DAY


def test_a_folder_as_spark_writes_it(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path)
    (folder / "interactions.csv").unlink()
    (folder / "interactions.csv").mkdir()
    for part in range(2):
        log().iloc[part::2].to_csv(folder / "interactions.csv" / f"part-0000{part}.csv", index=False)
    (folder / "interactions.csv" / "_SUCCESS").touch()
    (folder / "interactions.csv" / ".part-00000.csv.crc").write_bytes(b"crc")
    assert sorted(events(settings, folder)) == sorted(EXPECTED)
    assert last_day(settings, folder) == LAST_DAY
    assert [name for name, _ in landing(settings, folder).tables["interactions"].left_out] == [
        "interactions.csv/.part-00000.csv.crc",
        "interactions.csv/_SUCCESS",
    ]


def test_dates_only(settings, tmp_path: Path) -> None:
    frame = log()
    frame["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s").dt.strftime("%Y-%m-%d")
    folder = csv_source(tmp_path, frame)
    midnight = [(user, item, time // 86_400 * 86_400) for user, item, time in EXPECTED]
    assert events(settings, folder) == midnight
    assert last_day(settings, folder) == LAST_DAY


def test_two_logs_of_one_name(settings, tmp_path: Path) -> None:
    folder = table_source(tmp_path)
    later = log()
    later["timestamp"] += 86_400
    later.to_csv(folder / "interactions.csv", index=False)
    error = refusal(settings, folder)
    assert "interactions.csv, interactions.parquet" in error.problem
    assert "source: interactions.csv" in error.remedy
    (folder / "data.yaml").write_text("interactions: {source: interactions.csv}\n")
    assert last_day(settings, folder) == LAST_DAY + dt.timedelta(days=1)
