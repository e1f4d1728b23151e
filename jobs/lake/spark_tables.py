"""Lake tables as Spark frames: one date is read, or is written with the same bytes every time."""

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import hadoop_uri
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake, Pending

# How many values of the leading index one file holds: about 33 MB of 64-dimensional vectors. That is small enough to sort in
# one task and to read on its own, and large enough that a catalogue of 50 million items has only 382 files.
KEYS_PER_FILE = 131_072
_OF_PATTERNS = re.compile(r"[\[\]{}*?\\]")


def read_table(
    spark: SparkSession,
    settings: PipelineSettings,
    table: str,
    columns: Sequence[str] | None = None,
    *,
    date: dt.date | None = None,
) -> DataFrame:
    """One date of a lake table (default: the logical date). Raises `DataError` if it was never published."""
    frame = spark.read.parquet(readable(spark, Lake.of(settings).path(table, date or settings.date)))
    return frame.select(*columns) if columns else frame


def write_table(
    frame: DataFrame, pending: Pending, *, by: Sequence[str], keys: int | None = None, row_group_mb: int | None = None
) -> None:
    """Write a frame into a pending lake table. The same rows give the same files, however many cores compute them.

    Args:
        frame: rows of the table.
        pending: where they go.
        by: a unique key, by which each file is sorted.
        keys: number of values of the first column of `by`, a dense index 0..keys-1. The k-th file in the order of names then
            holds block k of `KEYS_PER_FILE` values (a block without rows has no file), so the files, read one after the
            other, give the whole table in order. If None, there is one file, for a small table.
        row_group_mb: size of a row group in MiB before compression, for a reader that takes one at a time. If None, it is
            Parquet's 128.
    """
    if keys is None:
        spread = frame.repartition(1)
    else:
        blocks = max(1, -(-keys // KEYS_PER_FILE))
        spread = frame.repartitionById(blocks, F.expr(f"cast(`{by[0]}` div {KEYS_PER_FILE} as int)"))
    writer = spread.sortWithinPartitions(*by).write
    if row_group_mb is not None:
        writer = writer.option("parquet.block.size", row_group_mb * 2**20)
    writer.parquet(reachable(frame.sparkSession, pending.path))


def readable(spark: SparkSession, path: UPath) -> str:
    """As `reachable`, for reading: there Spark takes the URI for a pattern, so the letters of patterns are escaped."""
    return _OF_PATTERNS.sub(r"\\\g<0>", reachable(spark, path))


def reachable(spark: SparkSession, path: UPath) -> str:
    """The URI by which Spark can read or write a place.

    Raises:
        DataError: Spark has no file system for the place, or lacks its classes.
    """
    uri = hadoop_uri(path)
    if not isinstance(path, Path):
        context: Any = spark.sparkContext
        try:
            context._jvm.org.apache.hadoop.fs.Path(uri).getFileSystem(context._jsc.hadoopConfiguration())
        except Py4JJavaError as error:
            raise DataError(
                f"Spark has no file system for this URI ({error.java_exception.getMessage()}).",
                file=uri,
                remedy="put Hadoop's connector on Spark's class path on all machines (spark.jars.packages; hadoop-aws for s3).",
            ) from error
    return uri
