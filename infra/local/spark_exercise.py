"""Loads the classes that the steps load: tables, aggregates, joins, windows, Python workers and ALS, on a handful of rows."""

import sys
from collections.abc import Iterator

import pyarrow as pa
from pyspark.ml.recommendation import ALS
from pyspark.sql import SparkSession, Window
from pyspark.sql import functions as F


def same(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches as they are."""
    yield from batches


def main(folder: str) -> None:
    """Exercise a session in local mode."""
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", 2)
        .getOrCreate()
    )
    rows = [(user, item, float(user + item), f"item {item}") for user in range(20) for item in range(user % 7 + 1)]
    session.createDataFrame(rows, "user int, item int, score double, name string").write.parquet(f"{folder}/table")
    events = session.read.parquet(f"{folder}/table").mapInArrow(same, "user int, item int, score double, name string")
    ranked = events.withColumn("rank", F.row_number().over(Window.partitionBy("user").orderBy(F.desc("score"))))
    totals = events.groupBy("item").agg(F.count("*").alias("n"), F.collect_list("score").alias("scores"))
    joined = ranked.join(totals, "item", "left").filter("rank <= 3").dropDuplicates(["user", "item"]).orderBy("user")
    joined.write.partitionBy("rank").parquet(f"{folder}/joined")
    joined.agg(F.stddev("score"), F.expr("percentile_approx(score, 0.5)"), F.countDistinct("name")).collect()
    ALS(userCol="user", itemCol="item", ratingCol="score", rank=2, maxIter=1).fit(events).itemFactors.collect()
    session.stop()


if __name__ == "__main__":
    main(sys.argv[1])
