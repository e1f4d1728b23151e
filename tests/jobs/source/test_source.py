"""Reading and checking the tables that a user brings."""

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.source.images import load_images, mark_images, read_image
from jobs.source.picture_files import find_picture, read_file
from jobs.source.tables import first_rows, read_source
from tests.jobs import source_builder as build

pytestmark = pytest.mark.spark


def stop(spark, settings) -> DataError:
    with pytest.raises(DataError) as caught:
        read_source(spark, settings)
    return caught.value


def test_parquet_and_csv_give_the_same_rows(spark, settings, tmp_path: Path) -> None:
    parquet = read_source(spark, build.tiny(settings, build.write_source(tmp_path / "with space")))
    csv = tmp_path / "csv"
    csv.mkdir()
    build.interactions().to_csv(csv / "interactions.csv", index=False)
    table = build.items()
    table.loc[0, "text"] = 'Two lines,\nand "quotes"'
    table.to_csv(csv / "items.csv", index=False)
    source = read_source(spark, build.tiny(settings, csv.as_uri()))
    columns = ["user_id", "item_id", "timestamp"]
    expected = build.interactions().sort_values(columns, ignore_index=True)
    for given in (parquet, source):
        rows = given.interactions.select(*columns).toPandas().sort_values(columns, ignore_index=True)
        pd.testing.assert_frame_equal(rows, expected, check_dtype=False)
        assert dict(given.interactions.dtypes)["timestamp"] == "bigint"
    texts = source.items.select("item_id", "text").toPandas().set_index("item_id")["text"]
    assert texts["i00"] == 'Two lines,\nand "quotes"'


def test_folder_of_part_files_keeps_the_order_of_the_files(spark, settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path / "source")
    (folder / "items.parquet").unlink()
    (folder / "items.parquet").mkdir()
    build.items().to_parquet(folder / "items.parquet" / "part-0.parquet")
    build.items().assign(title="later").to_parquet(folder / "items.parquet" / "part-1.parquet")
    source = read_source(spark, build.tiny(settings, folder))
    assert source.items.count() == 2 * build.NUM_ITEMS
    assert sorted(first_rows(source.items).toPandas()["title"]) == sorted(build.items()["title"])


def test_integer_ids_become_text_and_blank_ids_null(spark, settings, tmp_path: Path) -> None:
    log = build.interactions().astype({"item_id": str}).assign(user_id=7)
    log.loc[0, "item_id"] = "  "
    source = read_source(spark, build.tiny(settings, build.write_source(tmp_path, interactions=log)))
    rows = source.interactions.toPandas()
    assert set(rows["user_id"]) == {"7"}
    assert rows["item_id"].isna().sum() == 1


@pytest.mark.parametrize("kind", ["datetime64[ns]", "datetime64[us]", "datetime64[ms, UTC]", "float64"])
def test_timestamp_types(spark, settings, tmp_path: Path, kind: str) -> None:
    log = build.interactions()
    seconds = log["timestamp"].copy()
    if kind.startswith("datetime"):
        zoned = pd.to_datetime(seconds, unit="s", utc="UTC" in kind)
        log["timestamp"] = zoned.astype(kind)
    else:
        log["timestamp"] = seconds + 0.75
    source = read_source(spark, build.tiny(settings, build.write_source(tmp_path, interactions=log)))
    assert sorted(source.interactions.toPandas()["timestamp"]) == sorted(seconds)


@pytest.mark.parametrize(("unit", "factor"), [("ms", 1_000), ("us", 1_000_000)])
def test_other_units_declared(spark, settings, tmp_path: Path, unit: str, factor: int) -> None:
    log = build.interactions()
    seconds = sorted(log["timestamp"])
    log["timestamp"] = log["timestamp"] * factor + factor - 1
    chosen = build.tiny(settings, build.write_source(tmp_path, interactions=log), data={"timestamp_unit": unit})
    assert sorted(read_source(spark, chosen).interactions.toPandas()["timestamp"]) == seconds


@pytest.mark.parametrize(("declared", "factor", "fits"), [("s", 1_000, "ms"), ("ms", 1, "s"), ("s", 1_000_000, "us")])
def test_stop_timestamps_in_another_unit(spark, settings, tmp_path: Path, declared: str, factor: int, fits: str) -> None:
    log = build.interactions()
    log["timestamp"] *= factor
    folder = build.write_source(tmp_path, interactions=log)
    error = stop(spark, build.tiny(settings, folder, data={"timestamp_unit": declared}))
    assert error.column == "timestamp"
    assert error.file == str(folder / "interactions.parquet")
    assert f"data.timestamp_unit to '{fits}'" in error.remedy


def test_stop_date_without_events(spark, settings, tmp_path: Path) -> None:
    chosen = build.tiny(settings, build.write_source(tmp_path)).model_copy(update={"date": build.DATE.replace(day=30)})
    error = stop(spark, chosen)
    assert "2026-01-30" in error.problem
    assert "2026-01-28" in error.remedy


def test_stop_missing_folder_and_foreign_uri(spark, settings, tmp_path: Path) -> None:
    assert "does not exist" in stop(spark, build.tiny(settings, tmp_path / "nowhere")).problem
    assert "Install s3fs" in stop(spark, build.tiny(settings, "s3://bucket/data")).remedy


def test_stop_missing_file_says_what_was_found(spark, settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path)
    (folder / "interactions.parquet").rename(folder / "events.parquet")
    error = stop(spark, build.tiny(settings, folder))
    assert error.file == folder / "interactions.parquet"
    assert "events.parquet" in error.problem


def test_stop_missing_column_says_what_was_found(spark, settings, tmp_path: Path) -> None:
    log = build.interactions().rename(columns={"user_id": "customer"})
    error = stop(spark, build.tiny(settings, build.write_source(tmp_path, interactions=log)))
    assert error.column == "user_id"
    assert "customer, item_id, timestamp" in error.problem


@pytest.mark.parametrize(
    ("table", "column", "values", "found"),
    [
        ("interactions", "user_id", 1.5, "double"),
        ("interactions", "timestamp", True, "bool"),
        ("items", "image", "picture.png", "string"),
    ],
)
def test_stop_wrong_type(spark, settings, tmp_path: Path, table: str, column: str, values: object, found: str) -> None:
    frame = (build.interactions() if table == "interactions" else build.items()).assign(**{column: values})
    error = stop(spark, build.tiny(settings, build.write_source(tmp_path, **{table: frame})))
    assert error.column == column
    assert f"has type {found}" in error.problem


@pytest.mark.parametrize("table", ["interactions", "items"])
@pytest.mark.parametrize("form", ["parquet", "untyped", "csv"])
def test_stop_empty_table(spark, settings, tmp_path: Path, table: str, form: str) -> None:
    folder = build.write_source(tmp_path)
    path = folder / f"{table}.parquet"
    if form == "parquet":
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    elif form == "untyped":  # as pandas writes an empty frame: a column without a value gets the null type
        names = pq.read_schema(path).names
        pq.write_table(pa.table({name: pa.nulls(0) for name in names}), path)
    else:
        header = ",".join(pq.read_schema(path).names)
        path.unlink()
        path = path.with_suffix(".csv")
        path.write_text(header + "\n")
    error = stop(spark, build.tiny(settings, folder))
    assert "empty" in error.problem
    assert error.file == str(path)


def test_stop_csv_without_times(spark, settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path)
    (folder / "interactions.parquet").unlink()
    build.interactions().assign(timestamp="last week").to_csv(folder / "interactions.csv", index=False)
    assert "no value that is a time" in stop(spark, build.tiny(settings, folder)).problem


@pytest.mark.parametrize("content", [b"", b"PAR1", b"user_id,item_id\n1,2\n"])
def test_stop_damaged_footer(spark, settings, tmp_path: Path, content: bytes) -> None:
    folder = build.write_source(tmp_path)
    (folder / "interactions.parquet").write_bytes(content)
    error = stop(spark, build.tiny(settings, folder))
    assert error.file == folder / "interactions.parquet"
    assert "cannot be read as Parquet" in error.problem


def test_stop_damaged_pages(spark, settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path)
    path = folder / "interactions.parquet"
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    content[4:footer] = np.random.default_rng(0).bytes(footer - 4)
    path.write_bytes(bytes(content))
    error = stop(spark, build.tiny(settings, folder))
    assert "cannot be read as Parquet" in error.problem
    assert error.file == path


def test_part_files_may_lack_an_optional_column(spark, settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path)
    (folder / "items.parquet").unlink()
    (folder / "items.parquet").mkdir()
    build.items().to_parquet(folder / "items.parquet" / "a.parquet")
    build.items().drop(columns="text").to_parquet(folder / "items.parquet" / "b.parquet")
    rows = read_source(spark, build.tiny(settings, folder)).items.toPandas()
    assert rows["text"].isna().sum() == build.NUM_ITEMS and len(rows) == 2 * build.NUM_ITEMS


def test_frozen_source_goes_before_the_settings(spark, settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path / "frozen")
    chosen = build.tiny(settings, tmp_path / "elsewhere")
    chosen.run_dir.mkdir(parents=True)
    (chosen.run_dir / "source.json").write_text(json.dumps({"uri": folder.as_uri(), "kind": "folder"}))
    assert read_source(spark, chosen).folder == folder


def test_optional_column_of_nulls_counts_as_not_given(spark, settings, tmp_path: Path) -> None:
    folder = build.write_source(tmp_path)
    table = pq.read_table(folder / "items.parquet").drop_columns("text")
    pq.write_table(table.append_column("text", pa.nulls(len(table))), folder / "items.parquet")
    rows = read_source(spark, build.tiny(settings, folder)).items.toPandas()
    assert rows["text"].isna().all()


def test_digests_follow_the_content(spark, settings, tmp_path: Path) -> None:
    first = read_source(spark, build.tiny(settings, build.write_source(tmp_path / "a"))).digests()
    again = read_source(spark, build.tiny(settings, build.write_source(tmp_path / "b"))).digests()
    other = build.write_source(tmp_path / "c", items=build.items(25))
    changed = read_source(spark, build.tiny(settings, other)).digests()
    assert first == again
    assert changed["source/items"] != first["source/items"]
    assert changed["source/interactions"] == first["source/interactions"]


def test_images_by_every_way_and_in_order_of_precedence(spark, settings, tmp_path: Path) -> None:
    shots = [build.picture(seed) for seed in range(7)]
    (tmp_path / "pictures").mkdir()
    for number in (2, 3, 4):
        (tmp_path / "pictures" / f"{number} ü.png").write_bytes(shots[number])
    table = build.items()
    table["image"], table["image_path"] = None, None
    table.at[0, "image"], table.at[0, "image_path"] = shots[0], "pictures/2 ü.png"  # the images table wins over both
    table.at[1, "image"], table.at[1, "image_path"] = shots[1], "pictures/2 ü.png"  # bytes win over a path
    table.at[2, "image_path"] = "pictures/2 ü.png"
    table.at[3, "image_path"] = str(tmp_path / "pictures" / "3 ü.png")
    table.at[4, "image_path"] = (tmp_path / "pictures" / "4 ü.png").as_uri()
    table.at[5, "image_path"] = "pictures/absent.png"
    table.at[6, "image"] = b""
    table.at[7, "image_path"] = "pictures"  # a folder is not an ordinary file
    table.at[8, "image_path"] = "https://example.com/8.png"
    table.at[10, "image_path"] = " //example.com/10.png"  # a URL, as web pages write it
    images = pd.DataFrame({"item_id": ["i00", "i00", "i09"], "image": [shots[5], shots[6], None]})
    folder = build.write_source(tmp_path, items=table, images=images)
    source = read_source(spark, build.tiny(settings, folder), check_log=False)
    marks = mark_images(source, 10).toPandas()
    assert len(marks) == build.NUM_ITEMS + 1 and sorted(marks["num_pictures"])[-3:] == [1, 2, 2]
    marks = marks.where(marks["place"] == 0).dropna(subset="item_id").set_index("item_id")
    wanted = mark_images(source, 1).where("status = 'ok'").withColumn("known_hashes", F.array())
    wanted = wanted.withColumn("item_index", F.substring("item_id", 2, 9).cast("bigint"))
    loaded = load_images(source, wanted).collect()
    found = {f"i{row['item_index']:02d}": read_image(source.folder, None, row.asDict()) for row in loaded}
    expected = {"i00": shots[5], "i01": shots[1], "i02": shots[2], "i03": shots[3], "i04": shots[4]}
    assert found == expected
    for name in ("i00", "i01"):  # pictures in tables are known by their hash, files by their stamp
        assert marks.loc[name, "content_hash"] == hashlib.sha256(expected[name]).hexdigest()
        assert marks.loc[name, "file_stamp"] is None
    stamps = marks.loc[["i02", "i03", "i04"], "file_stamp"]
    assert stamps.nunique() == 3 and marks.loc[stamps.index, "content_hash"].isna().all()
    assert (marks.loc["i06", "status"], list(marks.loc["i06", "traits"])) == ("unreadable", ["empty"])
    assert set(marks.loc[["i05", "i07", "i08", "i09", "i10"], "status"]) == {"missing"}


def test_no_picture_is_shuffled_before_somebody_wants_it(spark, settings, tmp_path: Path) -> None:
    images = pd.DataFrame({"item_id": ["i00"], "image": [build.picture(1)]})
    table = build.items().assign(image=[build.picture(2)] * build.NUM_ITEMS)
    source = read_source(spark, build.tiny(settings, build.write_source(tmp_path, items=table, images=images)), check_log=False)
    for columns in sent_by_exchanges(mark_images(source, 10)):
        assert "image" not in columns
    assert any("image" in columns for columns in sent_by_exchanges(source.items.repartition(2, "item_id")))


def sent_by_exchanges(frame) -> list[list[str]]:
    """Names of the columns that each exchange (shuffle or broadcast) of a frame's plan sends."""
    found, ahead = [], [frame._jdf.queryExecution().executedPlan().executedPlan()]  # the plan inside the adaptive plan
    while ahead:
        node = ahead.pop()
        ahead += [node.children().apply(number) for number in range(node.children().size())]
        if "Exchange" in node.nodeName():
            found.append([node.output().apply(number).name() for number in range(node.output().size())])
    assert found
    return found


def test_a_stamp_changes_with_content_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"12345")
    first = find_picture(place(tmp_path), "a.png")
    assert first.stamp is not None and first.size == 5 and not first.why
    assert find_picture(place(tmp_path), path.as_uri()) == first == find_picture(place(tmp_path), "a.png")
    times = path.stat()
    time.sleep(0.02)
    path.write_bytes(b"54321")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # the size is the same, and the time is set back
    assert find_picture(place(tmp_path), "a.png").stamp != first.stamp
    for name in (None, "", "absent.png", ".", "x" * 5000, "null\0character", "/dev/zero", "file://host/a.png"):
        assert find_picture(place(tmp_path), name).stamp is None


def test_read_file_refuses_odd_names_and_large_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(b"12345")
    assert read_file(place(tmp_path), "a.png") == b"12345"
    assert read_file(place(tmp_path), "file:a.png") == b"12345"
    for name in (None, "", "x" * 5000, "null\0character", "/dev/zero", "file://host/a.png"):
        assert read_file(place(tmp_path), name) is None
    monkeypatch.setattr("jobs.source.picture_files.MAX_IMAGE_BYTES", 4)
    assert read_file(place(tmp_path), "a.png") == b""


def test_read_file_of_a_store_stays_in_stores_of_its_kind(tmp_path: Path) -> None:
    folder = place(f"memory://pictures/{tmp_path.name}")
    (tmp_path / "here.png").write_bytes(b"1")
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.png").write_bytes(b"12345")
    assert read_file(folder, "sub/a.png") == read_file(folder, f"memory://pictures/{tmp_path.name}/sub/a.png") == b"12345"
    for name in ("sub", "none.png", f"file://{tmp_path}/here.png", "http://127.0.0.1:9/a.png", "webhdfs://127.0.0.1:9/a.png"):
        assert read_file(folder, name) is None
    with pytest.raises(OSError):  # a store that is down still has its pictures
        read_file(place("webhdfs://127.0.0.1:9/shop"), "a.png")


def test_stop_dates_as_numbers_names_their_form(spark, settings, tmp_path: Path) -> None:
    log = build.interactions()
    log["timestamp"] = 20_260_128
    error = stop(spark, build.tiny(settings, build.write_source(tmp_path, interactions=log)))
    assert "look like dates, such as 20260128" in error.problem and "'%Y%m%d'" in error.remedy
