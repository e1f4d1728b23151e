"""Finds vectors in earlier tables, so that nothing is encoded twice, and keeps those of items that have none today."""

import datetime as dt
from collections.abc import Mapping
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.lake.spark_tables import read_table, write_table
from jobs.lake.tables import Lake

_COLUMNS = ("item_id", "vector", "status", "content_hash", "encoder", "file_stamp", "traits", "left_on")


def known_vectors(
    spark: SparkSession, settings: PipelineSettings, table: str, fingerprint: str
) -> tuple[DataFrame, dict[str, str]]:
    """Rows of earlier tables by the same encoder, with the lineage of those of other dates.

    Returns:
        A row for each content of an item that a table has, because an item may have several pictures: item_id, rank (the lowest
        is used: 0 this date, 1 the date before, 2 retired), the columns of a row, left_on, and `again`: whether an earlier date
        failed on the content, so that it is tried once more.
    """
    lake = Lake.of(settings)
    before, retired = (lake.previous_date(name, settings.date) for name in (table, retired_table(table)))
    today = settings.date if lake.intact(table, settings.date) else None  # a rerun must not carry over damaged files
    frames, inputs = [], {}
    for rank, (name, date) in enumerate([(table, today), (table, before), (retired_table(table), retired)]):
        if date is None:
            continue
        frame = read_table(spark, settings, name, date=date)
        if "traits" not in frame.columns:  # written before stamps and traits were kept
            continue
        if rank:
            inputs[f"{name}/date={date}"] = lake.manifest(name, date)["digest"]
        if "left_on" not in frame.columns:
            frame = frame.withColumn("left_on", F.lit(None).cast("date"))
        if "pictures" in frame.columns:  # of an item with several, each picture is known by itself
            several = frame.where("pictures is not null").select("item_id", "encoder", "left_on", F.inline("pictures"))
            frame = frame.where("pictures is null").select(*_COLUMNS).unionByName(several)
        frames.append(
            frame.where((F.col("encoder") == fingerprint) & F.col("content_hash").isNotNull()).select(
                *_COLUMNS, F.lit(rank).alias("rank"), (F.lit(rank > 0) & (F.col("status") != "ok")).alias("again")
            )
        )
    return (reduce(DataFrame.union, frames) if frames else _nothing_known(spark)), inputs


def retire_vectors(
    spark: SparkSession, settings: PipelineSettings, table: str, known: DataFrame, inputs: Mapping[str, str]
) -> None:
    """Keep the vectors of items that have none today, so that items that return are not encoded again.

    They come from the latest earlier date and from what that date had kept, so not all dates need be read. They do not come
    from an earlier run of this date, so a rerun keeps the same vectors.
    """
    days, lake = settings.features.keep_retired_days, Lake.of(settings)
    if not days or lake.previous_date(table, settings.date) is None:
        return
    present = read_table(spark, settings, table).where("vector is not null").select("item_id")
    gone = known.where("rank > 0 and vector is not null").join(present, "item_id", "left_anti")
    first = gone.groupBy("item_id").agg(F.min("rank").alias("rank"))
    kept = (
        gone.join(first, ["item_id", "rank"])
        .withColumn("left_on", F.coalesce("left_on", F.lit(settings.date)))
        .where(F.col("left_on") > F.lit(settings.date - dt.timedelta(days=days)))
    )
    with lake.write(retired_table(table), settings, inputs=[table], extra_inputs=inputs) as pending:
        write_table(kept.select(*_COLUMNS), pending, by=["item_id"])


def retired_table(table: str) -> str:
    """Name of the table that keeps the vectors of items that have none today."""
    return table.replace("_features", "_retired")


def _nothing_known(spark: SparkSession) -> DataFrame:
    schema = "item_id string, vector array<float>, status string, content_hash string, encoder string, file_stamp string"
    return spark.createDataFrame([], f"{schema}, traits array<string>, left_on date, rank int, again boolean")
