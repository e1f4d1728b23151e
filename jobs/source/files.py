"""Reads a landed table as a Spark frame with the columns of its contract."""

from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.base.errors import DataError
from jobs.base.places import file_stamp, place
from jobs.lake.spark_tables import readable
from jobs.landing.contract import SPARK, InputTable
from jobs.landing.contract import Column as ContractColumn
from jobs.landing.records import LandedPart, LandedTable


def open_table(spark: SparkSession, table: InputTable, landed: LandedTable) -> DataFrame:
    """A table with all columns of its contract (null if an optional one is not given) and `source_row`.

    Ids are strings, times Unix seconds. `source_row` is a struct (file string, row int64) that orders rows as their owner's
    files give them. A column without any value is a constant, so that Spark plans nothing for it.

    Raises:
        DataError: a file has changed since it was landed.
    """
    valued = {name for part in landed.parts for name in part.samples if part.missing.get(name, 0) < part.rows}
    groups: dict[tuple[int, tuple[tuple[str, str], ...]], list[LandedPart]] = {}
    for part in landed.parts:
        if not part.written:
            _check_unchanged(part)
        if part.rows:
            depth = 0 if part.written else part.name.count("/") + 1
            types = {name: kind for name, kind in part.types.items() if depth or name in valued}
            groups.setdefault((depth, tuple(types.items())), []).append(part)
    frames = [_read(spark, table, depth, dict(types), parts) for (depth, types), parts in groups.items()]
    return reduce(DataFrame.unionByName, frames)


def _read(spark: SparkSession, table: InputTable, depth: int, types: dict[str, str], parts: list[LandedPart]) -> DataFrame:
    """Parts that were written anew (depth 0), or those whose names have this many parts of their paths."""
    schema = ", ".join(f"`{name}` {kind}" for name, kind in types.items())
    if not depth:
        schema += ", source_file string, source_row bigint"
    frame = spark.read.schema(schema).parquet(*(readable(spark, place(part.uri)) for part in parts))
    if not depth:
        origin = F.struct(F.col("source_file").alias("file"), F.col("source_row").alias("row"))
    else:  # the name of the part, which Spark has made a URI of; so parts of both ways are in one order
        encoded = F.replace(F.substring_index("_metadata.file_path", "/", -depth), F.lit("+"), F.lit("%2B"))
        origin = F.struct(F.url_decode(encoded).alias("file"), F.col("_metadata.row_index").alias("row"))
    frame = frame.withColumn("source_row", origin)
    return frame.select(*(_in_form(column, types.get(column.name)) for column in table.columns), "source_row")


def _in_form(column: ContractColumn, kind: str | None) -> Column:
    wanted = SPARK[column.kind]
    if kind is None:
        return F.lit(None).cast(wanted).alias(column.name)
    if kind.startswith("timestamp"):  # cast in the session's zone, which is UTC; microseconds since 1970
        return F.floor(F.unix_micros(F.col(column.name).cast("timestamp")) / 1_000_000).cast("bigint").alias(column.name)
    return F.col(column.name).cast(wanted)


def _check_unchanged(part: LandedPart) -> None:
    found = file_stamp(place(part.uri))
    if found is None or found[1] != part.stamp:
        raise DataError(
            "the file was changed or removed while a run was reading it.",
            file=part.place,
            remedy="run the date again. Put new files in place under a new name, or by a rename, when no run is at work.",
        )
