"""A lake and a source in a store, used by the two real clients: Hadoop's in Spark, and fsspec's."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.base.errors import DataError
from jobs.base.places import hadoop_uri, local_draft, place
from jobs.forget.tables import LakeEraser
from jobs.lake import spark_tables
from jobs.lake.spark_tables import reachable, read_table, write_table
from jobs.lake.tables import Lake
from jobs.source.images import mark_images, read_file
from jobs.source.tables import read_source, source_digests
from tests.jobs import source_builder as build
from tests.jobs.forget.forget_home import DATES, files_naming, write_days
from tests.jobs.webhdfs_server import webhdfs_server

pytestmark = pytest.mark.spark


@pytest.fixture
def store(tmp_path: Path):
    folder = tmp_path / "store"
    folder.mkdir()
    with webhdfs_server(folder) as uri:
        yield folder, uri


def test_a_table_written_by_spark_is_published_and_read_by_both_clients(spark, settings, store, monkeypatch) -> None:
    monkeypatch.setattr(spark_tables, "KEYS_PER_FILE", 100)
    folder, uri = store
    settings = settings.model_copy(update={"lake": f"{uri}/some lake"})
    lake, rows = Lake.of(settings), spark.range(0, 250, 1, 3).withColumnRenamed("id", "item_index")
    versions = []
    for frame in (rows, rows.orderBy("item_index", ascending=False)):
        with lake.write("numbers", settings) as pending:
            write_table(frame, pending, by=["item_index"], keys=250)
        versions.append(lake.path("numbers", settings.date).name)
    assert versions[0] == versions[1] and lake.dates("numbers") == [settings.date]
    assert lake.manifest("numbers", settings.date)["rows"] == 250
    assert lake.read("numbers", settings.date)["item_index"].to_pylist() == list(range(250))
    assert read_table(spark, settings, "numbers").count() == 250
    published = folder / "some lake" / "numbers" / f"date={settings.ds}"
    assert {path.name for path in published.iterdir()} == {"CURRENT", versions[0]}
    assert sorted(len(pq.read_table(file)) for file in (published / versions[0]).iterdir()) == [50, 100, 100]
    pq.write_table(pa.table({"item_index": [7]}), folder / "one.parquet")
    with lake.write("numbers", settings) as pending, local_draft(pending.path / "one.parquet") as draft:
        shutil.copy(folder / "one.parquet", draft)
    assert lake.read("numbers", settings.date)["item_index"].to_pylist() == [7]


def test_a_user_is_forgotten_in_a_store_as_in_a_folder(settings, store) -> None:
    folder, uri = store
    write_days(settings, ["u0001", "u0002", "u0003"], DATES[-1:])
    shutil.copytree(settings.home / "lake", folder / "lake")
    there, here = Lake(f"{uri}/lake"), Lake.of(settings)
    for lake in (there, here):
        eraser = LakeEraser(lake, "u0002", "request")
        for date in eraser.dates():
            eraser.erase(date, lambda table, done: None)
    tables = [(table, date) for table in here.tables() for date in here.dates(table)]
    digests = [{name: lake.manifest(*name)["digest"] for name in tables} for lake in (there, here)]
    assert digests[0] == digests[1] and len(tables) == 7
    assert files_naming(folder, "u0002") == []


def test_a_source_is_read_with_its_pictures_as_from_a_folder(spark, settings, store) -> None:
    folder, uri = store
    items = build.items().assign(image_path=[f"pictures/{row}.png" for row in range(build.NUM_ITEMS)])
    build.write_source(folder / "shop", items=items)
    (folder / "shop" / "interactions.parquet").unlink()
    build.interactions().to_csv(folder / "shop" / "interactions.csv", index=False)
    (folder / "shop" / "pictures").mkdir()
    (folder / "shop" / "pictures" / "3.png").write_bytes(build.picture(3))
    found = {}
    for where in (f"{uri}/shop", str(folder / "shop")):
        chosen = build.tiny(settings, where)
        source = read_source(spark, chosen)
        pictures = mark_images(source, 1).orderBy("item_id").toPandas()
        pictures["image"] = [read_file(source.folder, path) for path in pictures["image_path"]]
        digests = {name: digest for name, digest in source_digests(chosen).items() if name != "source"}
        found[where] = (source.interactions.count(), source.items.count(), digests, pictures)
    (there, here) = found.values()
    assert there[:3] == here[:3] and here[0] == len(build.interactions())
    names = ["item_id", "status", "image_path", "image"]  # not the stamp, which depends on where the file lies
    pd.testing.assert_frame_equal(there[3][names], here[3][names])
    assert (here[3]["status"] == "ok").sum() == 1


def test_spark_without_a_connector_says_which(spark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("upath.UPath.fs", None)  # fsspec's client is not installed either
    assert hadoop_uri(place("s3://bucket/lake")) == "s3a://bucket/lake"
    with pytest.raises(DataError, match=r"S3AFileSystem not found.*hadoop-aws"):
        reachable(spark, place("s3://bucket/lake"))
