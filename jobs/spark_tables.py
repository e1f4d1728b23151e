"""Lake tables as Spark frames: read one date, write one date with the same bytes every time."""

import datetime as dt
from collections.abc import Sequence

from pyspark.sql import DataFrame, SparkSession

from jobs.lake import Lake, Pending
from jobs.settings import PipelineSettings


def read_table(
    spark: SparkSession,
    settings: PipelineSettings,
    table: str,
    columns: Sequence[str] | None = None,
    *,
    date: dt.date | None = None,
) -> DataFrame:
    """One date of a lake table (the logical date unless given); raises `DataError` when it was never published."""
    frame = spark.read.parquet(f"file://{Lake.of(settings).path(table, date or settings.date)}")
    return frame.select(*columns) if columns else frame


def write_table(frame: DataFrame, pending: Pending, *, by: Sequence[str]) -> None:
    """Write a frame into a pending lake table as one file, sorted by `by`, which must be a unique key.

    One sorted file makes the bytes, and so the digest, independent of how many cores or partitions computed the rows.
    """
    frame.repartition(1).sortWithinPartitions(*by).write.parquet(f"file://{pending.path}")
