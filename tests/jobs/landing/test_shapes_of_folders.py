"""Folders as tools leave them: parts in subfolders, markers, hidden files, odd names, and two things of one name."""

import gzip
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.landing.records import LandedPart
from tests.jobs.landing.sources import EXPECTED, csv_source, landing, log, refusal, rows, table_source, with_mapping

LOG = pa.Table.from_pandas(log(), preserve_index=False)
ODD_NAMES = ["a#b", "what?", "100%", "a%20b", "a\\b", "[x]", "{a,b}", "st*r", " blank ", "ümläut ß", "quo'te\"", "a:b"]
ODD_NAMES += ["a+b&c", "日本"]


def parts_of(settings, folder: Path) -> list[LandedPart]:
    return landing(settings, folder).tables["interactions"].parts


def in_parts(folder: Path, name: str = "interactions") -> Path:
    """A source whose log is a folder without parts."""
    (table_source(folder) / "interactions.parquet").unlink()
    (folder / name).mkdir()
    return folder / name


def as_text(found: list[dict]) -> list[tuple]:
    return sorted((str(row["user_id"]), str(row["item_id"]), row["timestamp"]) for row in found)


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("form", ["parquet", "csv", "delta"])
def test_odd_names_of_the_folder_of_the_source(settings, tmp_path: Path, name: str, form: str) -> None:
    from deltalake import write_deltalake

    folder = csv_source(tmp_path / name) if form == "csv" else table_source(tmp_path / name)
    if form == "delta":
        (folder / "interactions.parquet").unlink()
        write_deltalake(tmp_path / "plain", LOG)
        shutil.move(tmp_path / "plain", folder / "interactions")
    assert as_text(rows(landing(settings, folder).tables["interactions"])) == sorted(EXPECTED)


@pytest.mark.parametrize("name", ["interactions", "interactions.parquet", "interactions.csv"])
def test_parts_below_folders_of_hive(settings, tmp_path: Path, name: str) -> None:
    folder = in_parts(tmp_path, name)
    for number, day in enumerate(("2026-01-27", "__HIVE_DEFAULT_PARTITION__")):
        (folder / f"date={day}" / "_temporary" / "0").mkdir(parents=True)
        (folder / f"date={day}" / ".hive-staging").mkdir()
        pq.write_table(LOG.slice(280 * number, 280), folder / f"date={day}" / "part-0.parquet")
        pq.write_table(LOG, folder / f"date={day}" / "_temporary" / "0" / "part-9.parquet")
        pq.write_table(LOG, folder / f"date={day}" / ".hive-staging" / "part-9.parquet")
        (folder / f"date={day}" / "._part-0.parquet").write_bytes(b"x")
        (folder / f"date={day}" / ".part-0.parquet.crc").write_bytes(b"x")
        (folder / f"date={day}" / "_SUCCESS").touch()
    found = landing(settings, tmp_path).tables["interactions"]
    assert as_text(rows(found)) == sorted(EXPECTED)
    assert len(found.left_out) == 10


def test_values_that_only_the_names_of_folders_give(settings, tmp_path: Path) -> None:
    folder = in_parts(tmp_path)
    for name in ("user_id=a%20b", "user_id=7", "user_id=__HIVE_DEFAULT_PARTITION__"):
        (folder / name).mkdir()
        pq.write_table(LOG.slice(0, 2).drop_columns("user_id"), folder / name / "part-0.parquet")
    with_mapping(tmp_path, {"interactions": {"defaults": {"user_id": "nobody"}}})
    found = rows(landing(settings, tmp_path).tables["interactions"])
    assert sorted({row["user_id"] for row in found}) == ["7", "a b", "nobody"]


def test_a_part_with_another_order_type_or_more_columns(settings, tmp_path: Path) -> None:
    folder = in_parts(tmp_path)
    pq.write_table(LOG.slice(0, 100), folder / "0.parquet")
    pq.write_table(LOG.slice(100, 100).select(["timestamp", "item_id", "user_id"]), folder / "1.parquet")
    as_strings = LOG.slice(200, 100).set_column(0, "user_id", LOG["user_id"].slice(200, 100).cast(pa.string()))
    pq.write_table(as_strings.append_column("device", pa.array(["x"] * 100)), folder / "2.parquet")
    pq.write_table(LOG.slice(0, 0), folder / "3.parquet")
    pq.write_table(LOG.slice(300).set_column(1, "item_id", LOG["item_id"].slice(300).cast(pa.float64())), folder / "4.parquet")
    assert as_text(rows(landing(settings, tmp_path).tables["interactions"])) == sorted(EXPECTED)


def test_a_part_whose_required_column_has_no_value(settings, tmp_path: Path) -> None:
    folder = in_parts(tmp_path)
    pq.write_table(LOG.slice(0, 550), folder / "0.parquet")
    pq.write_table(LOG.slice(550).set_column(0, "user_id", pa.nulls(10)), folder / "1.parquet")
    assert [part.missing for part in parts_of(settings, tmp_path)] == [{}, {"user_id": 10}]
    pq.write_table(LOG.slice(550).drop_columns("user_id"), folder / "1.parquet")
    error = refusal(settings, tmp_path)
    assert (error.file, error.column) == (folder / "1.parquet", "user_id")


def test_a_damaged_part_is_named(settings, tmp_path: Path) -> None:
    folder = in_parts(tmp_path)
    pq.write_table(LOG, folder / "0.parquet")
    (folder / "1.parquet").touch()
    assert refusal(settings, tmp_path).file == folder / "1.parquet"


def test_folders_without_data_or_with_two_formats(settings, tmp_path: Path) -> None:
    folder = in_parts(tmp_path)
    assert "holds no file of a known format; found: nothing" in refusal(settings, tmp_path).problem
    (folder / "_SUCCESS").touch()
    (folder / "notes.xlsx").touch()
    assert "interactions/_SUCCESS, interactions/notes.xlsx" in refusal(settings, tmp_path).problem
    pq.write_table(LOG, folder / "0.parquet")
    (folder / "0.csv").write_text(log().to_csv(index=False))
    assert "several formats (csv, parquet)" in refusal(settings, tmp_path).problem
    (folder / "0.csv").unlink()
    assert ("interactions/notes.xlsx", "its suffix is none of a known format") in landing(settings, tmp_path).tables[
        "interactions"
    ].left_out


def test_a_source_in_the_mapping_stays_within_the_folder(settings, tmp_path: Path) -> None:
    folder = table_source(tmp_path / "source")
    table_source(tmp_path / "elsewhere")
    for source in ("../elsewhere/interactions.parquet", str(tmp_path / "elsewhere" / "interactions.parquet")):
        assert "leaves the folder" in refusal(settings, with_mapping(folder, {"interactions": {"source": source}})).problem
    error = refusal(settings, with_mapping(folder, {"interactions": {"source": "events.parquet"}}))
    assert "no such file or folder; found: data.yaml, interactions.parquet, items.parquet" in error.problem


def test_two_logs_of_one_name_in_two_folders(settings, tmp_path: Path) -> None:
    folder = table_source(tmp_path)
    (folder / "interactions.parquet").unlink()
    for year, size in (("2025", 100), ("2026", 460)):
        (folder / year).mkdir()
        pq.write_table(LOG.slice(0, size), folder / year / "log.parquet")
    with_mapping(folder, {"interactions": [{"source": f"{year}/log.parquet"} for year in ("2025", "2026")]})
    assert [(part.name, part.rows) for part in parts_of(settings, folder)] == [
        ("2025/log.parquet", 100),
        ("2026/log.parquet", 460),
    ]


def test_names_that_come_twice_in_the_mapping(settings, tmp_path: Path) -> None:
    folder = with_mapping(table_source(tmp_path), "items: {}\ninteractions: {source: a}\nitems: {source: b}\n")
    assert "the name items comes twice" in refusal(settings, folder).problem


ENCODINGS = [
    *({"compression": codec} for codec in ("brotli", "lz4", "zstd", "gzip", "snappy", "none")),
    {"use_dictionary": False, "column_encoding": {"user_id": "DELTA_BINARY_PACKED", "timestamp": "DELTA_BINARY_PACKED"}},
    {"use_dictionary": False, "column_encoding": {"user_id": "BYTE_STREAM_SPLIT", "timestamp": "BYTE_STREAM_SPLIT"}},
    {"data_page_version": "2.0"},
    {"version": "1.0"},
    {"row_group_size": 7},
    {"use_dictionary": False, "column_encoding": {"item_id": "DELTA_BYTE_ARRAY"}},
    {"use_dictionary": False, "column_encoding": {"item_id": "DELTA_LENGTH_BYTE_ARRAY"}},
]


@pytest.mark.parametrize("options", ENCODINGS, ids=str)
def test_codecs_and_encodings(settings, tmp_path: Path, options: dict) -> None:
    texts = LOG.set_column(1, "item_id", LOG["item_id"].cast(pa.string()))
    folder = table_source(tmp_path, texts, **options)
    assert as_text(rows(landing(settings, folder).tables["interactions"])) == sorted(EXPECTED)


def test_new_parts_alone_are_read_again(settings, tmp_path: Path) -> None:
    folder = in_parts(tmp_path, "interactions.csv")
    for number in range(3):
        text = log().iloc[number * 100 : number * 100 + 100].to_csv(index=False)
        (folder / f"{number}.csv.gz").write_bytes(gzip.compress(text.encode()))
    first = parts_of(settings, tmp_path)
    stamps = [Path(part.uri.removeprefix("file://")).stat().st_mtime_ns for part in first]
    (folder / "2.csv.gz").write_bytes(gzip.compress(log().iloc[:7].to_csv(index=False).encode()))
    again = parts_of(settings, tmp_path)
    assert [part.rows for part in again] == [100, 100, 7] and again[:2] == first[:2]
    assert [Path(part.uri.removeprefix("file://")).stat().st_mtime_ns for part in again[:2]] == stamps[:2]


@pytest.mark.spark
def test_spark_finds_the_parts_in_folders_of_odd_names(settings, spark, tmp_path: Path) -> None:
    from jobs.source.tables import read_source
    from tests.jobs import source_builder as build

    for name in ODD_NAMES:
        folder = build.write_source(tmp_path / name)
        (folder / "items.parquet").rename(folder / "whole")
        (folder / "items").mkdir()
        (folder / "whole").rename(folder / "items" / "part 0+ü.parquet")
        rows = read_source(spark, build.tiny(settings, folder), check_log=False).items.select("source_row.file").distinct()
        assert [row[0] for row in rows.collect()] == ["items/part 0+ü.parquet"], name


def test_a_source_in_a_store(settings) -> None:
    from jobs.base.places import place
    from jobs.landing.land import land

    folder = place("memory://shop/daily")
    (folder / "interactions").mkdir(parents=True)
    (folder / "interactions" / "part-0.csv").write_text(log().to_csv(index=False))
    (folder / "interactions" / "_SUCCESS").write_text("")
    (folder / "items.jsonl").write_text('{"item_id": 1}\n')
    found = land(folder, settings, settings.home / "landing").tables["interactions"]
    assert as_text(rows(found)) == sorted(EXPECTED)
    assert [part.name for part in found.parts] == ["interactions/part-0.csv"] and len(found.left_out) == 1


@pytest.mark.parametrize("name", ["data.yml", "Data.yaml", "DATA.YML", "data.yaml.txt"])
def test_a_mapping_under_nearly_the_right_name_is_not_passed_over(settings, tmp_path: Path, name: str) -> None:
    folder = csv_source(tmp_path)
    (folder / name).write_text("repeats: again\n")
    error = refusal(settings, folder)
    assert f"{name} is not read" in error.problem and "rename it to data.yaml" in error.remedy
    (folder / name).rename(folder / "data.yaml")
    assert landing(settings, folder).mapping["repeats"] == "again"


def test_a_link_to_nothing_says_so(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path)
    (folder / "items.csv").rename(tmp_path / "elsewhere.csv")
    (folder / "items.csv").symlink_to(tmp_path / "gone.csv")
    assert f"a link to {tmp_path / 'gone.csv'}, which is not there" in refusal(settings, folder).problem
    (folder / "items.csv").unlink()
    (folder / "items.csv").symlink_to(tmp_path / "elsewhere.csv")
    assert landing(settings, folder).tables["items"].rows == 60
