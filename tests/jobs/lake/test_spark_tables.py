"""Tables of many files: each file is a block of the index, and the files do not depend on how the rows were spread."""

from pathlib import Path

import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from jobs.lake import spark_tables
from jobs.lake.spark_tables import read_table, write_table
from jobs.lake.tables import Lake

pytestmark = pytest.mark.spark


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def test_each_file_is_a_sorted_block_and_names_follow_the_blocks(spark, settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_tables, "KEYS_PER_FILE", 100)
    lake, digests = Lake.of(settings), set()
    # 30 rows of every third index, none in block 4. The number of tasks and the shuffle setting differ each time.
    for tasks, partitions in ((1, 2), (5, 9)):
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        rows = spark.range(0, 1030, 1, tasks).withColumnRenamed("id", "user_index").where("user_index div 100 != 4")
        shuffled = rows.repartition("user_index").withColumn("twice", F.col("user_index") * 2)
        with lake.write("numbers", settings) as pending:
            write_table(shuffled, pending, by=["user_index"], keys=1030)
        digests.add(lake.manifest("numbers", settings.date)["digest"])
    spark.conf.set("spark.sql.shuffle.partitions", 2)
    found = [pq.read_table(file)["user_index"].to_pylist() for file in files(lake.path("numbers", settings.date))]
    assert found == [list(range(start, min(start + 100, 1030))) for start in range(0, 1030, 100) if start != 400]
    assert len(digests) == 1
    in_order = pads.dataset(lake.path("numbers", settings.date), format="parquet").to_table()["user_index"].to_pylist()
    assert in_order == [index for block in found for index in block]
    assert lake.read("numbers", settings.date)["user_index"].to_pylist() == in_order
    assert read_table(spark, settings, "numbers").agg(F.sum("twice")).first()[0] == 2 * sum(in_order)


def test_without_keys_there_is_one_file_and_an_empty_table_can_be_read(spark, settings) -> None:
    lake, rows = Lake.of(settings), spark.range(0, 50, 1, 4)
    for table, frame, keys in (("small", rows, None), ("empty", rows.where("id < 0"), 0)):
        with lake.write(table, settings) as pending:
            write_table(frame, pending, by=["id"], keys=keys)
        assert len(files(lake.path(table, settings.date))) == 1
        assert lake.read(table, settings.date)["id"].to_pylist() == [row["id"] for row in frame.collect()]


def test_row_groups_have_the_size_asked_for(spark, settings) -> None:
    lake, groups = Lake.of(settings), {}
    rows = spark.range(30_000).select("id", F.array(*(F.xxhash64("id", F.lit(column)) for column in range(20))).alias("hashes"))
    for table, size in (("whole", None), ("split", 1)):
        with lake.write(table, settings) as pending:
            write_table(rows, pending, by=["id"], keys=30_000, row_group_mb=size)
        (file,) = files(lake.path(table, settings.date))
        groups[table] = pq.ParquetFile(file).num_row_groups
    assert groups["whole"] == 1 < 3 <= groups["split"]
