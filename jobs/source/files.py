"""Reads one input table, Parquet or CSV, as a Spark frame with the columns of its contract."""

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import DataType, LongType, StringType, StructField, StructType
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import arrow_source, files_below
from jobs.lake.spark_tables import reachable
from jobs.source.contract import ACCEPTED, InputTable
from jobs.source.contract import Column as ContractColumn


def open_table(spark: SparkSession, table: InputTable, path: UPath) -> DataFrame:
    """A table with all columns of its contract (null if an optional one is not given) and `source_row`.

    Ids become strings, and blank ids become null. A timestamp column keeps its type. Spark cannot read nanoseconds, so such
    a column comes as int64 with `nanoseconds` in its metadata. `source_row` is a struct (file string, row int64).

    Raises:
        DataError: the file cannot be read, is empty, lacks a required column, or a column has another type.
    """
    frame = _open_csv(spark, table, path) if path.suffix == ".csv" else _open_parquet(spark, table, path)
    present = set(frame.columns)
    return frame.select(*(_normalised(column, column.name in present) for column in table.columns), "source_row")


def parquet_files(path: UPath) -> list[UPath]:
    """A Parquet file, or those of a folder in the order of their names."""
    return [file for file in files_below(path) if file.suffix == ".parquet"]


def _open_parquet(spark: SparkSession, table: InputTable, path: UPath) -> DataFrame:
    files = parquet_files(path)
    if not files:
        raise DataError("the folder holds no .parquet file.", file=path, remedy="name the part files *.parquet.")
    parts = {file: _footer(file) for file in files}
    if not any(rows for _, rows in parts.values()):  # first, because a column without a value may have no type either
        raise DataError("the table is empty.", file=path, remedy="export it again; at least one row is needed.")
    fields: list[StructField] | None = None
    for file, (schema, _) in parts.items():
        these = _spark_fields(table, schema, file)
        if fields is not None and these != fields:
            raise DataError(
                f"the file has other columns or types than {files[0].name}: {_named(these)} instead of {_named(fields)}.",
                file=file,
                remedy="write all part files of a table with one schema.",
            )
        fields = these
    spark.conf.set("spark.sql.legacy.parquet.nanosAsLong", "true")  # pandas writes nanoseconds, which Spark lacks
    frame = spark.read.schema(StructType(fields or [])).parquet(*(reachable(spark, file) for file in files))
    place = F.struct(F.col("_metadata.file_path").alias("file"), F.col("_metadata.row_index").alias("row"))
    return frame.select("*", place.alias("source_row"))


def _footer(file: UPath) -> tuple[pa.Schema, int]:
    """Schema and number of rows of a Parquet file."""
    try:
        with pq.ParquetFile(**arrow_source(file)) as parquet:
            return parquet.schema_arrow, parquet.metadata.num_rows
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"the file cannot be read as Parquet ({str(error).splitlines()[0]}).",
            file=file,
            remedy="write or copy the file again and compare its size.",
        ) from error


def _open_csv(spark: SparkSession, table: InputTable, path: UPath) -> DataFrame:
    try:
        with path.open("rb") as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as stream:  # type: ignore[type-var]
            names = next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"the file cannot be read as UTF-8 CSV ({error}).", file=path, remedy="save it as CSV in UTF-8 with a header line."
        ) from error
    for column in table.columns:
        _check_presence(column, names, path)
        if column.kind == "binary" and column.name in names:
            raise DataError(
                "pictures cannot be stored in CSV.",
                file=path,
                column=column.name,
                remedy="use Parquet, or give file names in a column image_path.",
            )
    schema = StructType([StructField(name, StringType()) for name in names])
    # multiLine keeps the file in one task, so that quoted line breaks and the order of rows survive.
    frame = spark.read.schema(schema).csv(reachable(spark, path), header=True, multiLine=True, escape='"')
    if frame.isEmpty():
        raise DataError("the table is empty.", file=path, remedy="export it again; at least one row is needed.")
    place = F.struct(F.lit(path.name).alias("file"), F.monotonically_increasing_id().alias("row"))
    return frame.select("*", place.alias("source_row"))


def _spark_fields(table: InputTable, schema: pa.Schema, file: UPath) -> list[StructField]:
    fields = []
    for column in table.columns:
        _check_presence(column, schema.names, file)
        if column.name not in schema.names:
            continue
        arrow = schema.field(column.name).type
        if pa.types.is_dictionary(arrow):
            arrow = arrow.value_type
        if pa.types.is_null(arrow) and not column.required:
            continue
        nanoseconds = pa.types.is_timestamp(arrow) and arrow.unit == "ns"
        kind = _spark_type(arrow)
        name = kind if isinstance(kind, str) else kind.simpleString()
        if isinstance(kind, str) or name.split("(")[0] not in ACCEPTED[column.kind]:
            raise DataError(
                f"the column has type {name}, but {' or '.join(ACCEPTED[column.kind])} is expected.",
                file=file,
                column=column.name,
                remedy=_type_remedy(column, name),
            )
        fields.append(StructField(column.name, LongType() if nanoseconds else kind, True, {"nanoseconds": nanoseconds}))
    return fields


def _spark_type(arrow: pa.DataType) -> DataType | str:
    try:
        return from_arrow_type(arrow, prefer_timestamp_ntz=True)
    except PySparkException:
        return str(arrow)


def _type_remedy(column: ContractColumn, found: str) -> str:
    if column.kind == "id" and found in ("float", "double"):
        return "store ids as integers or strings (pandas turns integer columns with gaps into floats)."
    if column.kind == "binary" and found == "string":
        return "store the encoded picture as bytes, or name a column of file names image_path."
    return f"convert the column to {ACCEPTED[column.kind][0]}."


def _check_presence(column: ContractColumn, names: list[str], file: UPath) -> None:
    if column.required and column.name not in names:
        raise DataError(
            f"a required column is missing; columns found: {', '.join(names) or 'none'}.",
            file=file,
            column=column.name,
            remedy=f"add or rename a column to '{column.name}': {column.meaning}",
        )


def _normalised(column: ContractColumn, present: bool) -> Column:
    if not present:
        return F.lit(None).cast("binary" if column.kind == "binary" else "string").alias(column.name)
    value = F.col(column.name)
    if column.kind == "id":
        text = value.cast("string")
        return F.when(F.trim(text) != "", text).alias(column.name)
    return value


def _named(fields: list[StructField]) -> str:
    return ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in fields)
