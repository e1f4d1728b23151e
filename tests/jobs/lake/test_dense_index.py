"""Numbering in many tasks gives the same numbers as one window over all rows."""

import pytest
from pyspark.sql import Window
from pyspark.sql import functions as F

from jobs.lake.dense_index import dense_index

pytestmark = pytest.mark.spark


def kept(spark) -> set[int]:
    """Numbers of the RDDs that the session keeps in memory. (Other tests use the session too.)"""
    return set(spark.sparkContext._jsc.getPersistentRDDs().keys())


@pytest.mark.parametrize("rows", [0, 997])
def test_numbers_are_those_of_one_window(spark, rows: int) -> None:
    # Skewed, of unequal length, and beyond ASCII, where the order of bytes could differ from that of characters.
    key = F.concat(F.lit("é"), F.hex(F.xxhash64("id") % 64), F.col("id").cast("string"))
    frame = spark.range(rows).select(key.alias("name"), "id")
    expected = frame.withColumn("number", F.row_number().over(Window.orderBy("name")).cast("bigint") - 1)
    spark.conf.set("spark.sql.shuffle.partitions", 7)
    spark.conf.set("spark.sql.adaptive.enabled", "false")  # else it would merge so few rows into one range
    kept_before = kept(spark)
    try:
        with dense_index(frame, "name", "number") as (numbered, count):
            assert count == rows
            assert numbered.columns == expected.columns and numbered.schema["number"].dataType.simpleString() == "bigint"
            assert numbered.orderBy("name").collect() == expected.orderBy("name").collect()
            if rows:
                assert numbered.rdd.glom().map(len).filter(bool).count() > 3
        assert kept(spark) <= kept_before
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", 2)
        spark.conf.unset("spark.sql.adaptive.enabled")


def test_numbers_hold_when_the_kept_rows_are_lost(spark) -> None:
    frame = spark.range(500).select(F.hex(F.xxhash64("id")).alias("name"))
    with dense_index(frame, "name", "number") as (numbered, _):
        first = numbered.orderBy("name").collect()
        for rdd in spark.sparkContext._jsc.getPersistentRDDs().values():
            rdd.unpersist()
        assert numbered.orderBy("name").collect() == first
    assert [row["number"] for row in first] == list(range(500))
