"""The tables a user brings, checked against the data contract and brought to one form.

A table that cannot be used as it is stops the run here, with a `DataError` that names file, column and remedy. Single bad rows
pass, and ingest sets them aside. The source is the one of `<run_dir>/source.json` if the run has frozen one, else that of the
settings.
"""

import datetime as dt
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.files import file_digest
from jobs.base.places import children, existing_folder, uri_of
from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.source.contract import IMAGES, INTERACTIONS, ITEMS, UNITS_PER_SECOND, InputTable
from jobs.source.files import open_table, parquet_files

DAY_SECONDS = 86_400
# A log whose median event lies outside these years has its timestamps in another unit than declared.
_FIRST_YEAR, _LAST_YEAR = 1980, 2100


@dataclass(frozen=True)
class Source:
    """The input tables in one form. Ids are strings, null if blank. Every optional column is there, null if it was not given.

    Attributes:
        folder: where the tables lie; relative picture paths start here.
        files: file or folder of each table found, by table name.
        interactions: user_id string, item_id string, timestamp int64 (UTC s, null where unusable), source_row.
        items: item_id, title, text, image_path string, image binary, source_row.
        images: item_id string, image binary, source_row; None if the source has no such table.

    `source_row` is a struct (file string, row int64) that orders rows as the files give them.
    """

    folder: UPath
    files: dict[str, UPath]
    interactions: DataFrame
    items: DataFrame
    images: DataFrame | None

    def digests(self) -> dict[str, str]:
        """SHA-256 of the content of each input table, for the lineage of what is made from it."""
        return _digests(self.files)


def read_source(spark: SparkSession, settings: PipelineSettings, *, check_log: bool = True) -> Source:
    """Open the input tables.

    Args:
        spark: session to read with.
        settings: gives the source, the timestamp unit and the logical date.
        check_log: whether to read the log once, to check that its timestamps make sense and that the logical date has events.

    Raises:
        DataError: a table or column is missing, a file cannot be read, a column has another type, a table is empty,
            timestamps are in another unit than declared, or the logical date has no events.
    """
    folder = source_folder(settings)
    files = _files(folder)
    with named_read_errors(folder):
        frames = {table.name: open_table(spark, table, files[table.name]) for table in _present(files)}
        interactions = frames["interactions"].select(
            "user_id", "item_id", _seconds(frames["interactions"], settings).alias("timestamp"), "source_row"
        )
        if check_log:
            _check_log(interactions, files["interactions"], settings)
    return Source(folder, files, interactions, frames["items"], frames.get("images"))


def source_digests(settings: PipelineSettings) -> dict[str, str]:
    """Where the source lies, and the digest of each of its tables. Raises `DataError` if a table is missing."""
    folder = source_folder(settings)
    return {"source": uri_of(folder), **_digests(_files(folder))}


def source_folder(settings: PipelineSettings) -> UPath:
    """The folder of the source. Raises `DataError` if there is none."""
    frozen = settings.run_dir / "source.json"
    if frozen.exists():
        uri = str(json.loads(frozen.read_text())["uri"])
    elif settings.data.source == EMBEDDED:
        uri = str(settings.home / "source" / f"date={settings.ds}")
    else:
        uri = settings.data.source
    return existing_folder(uri)


@contextmanager
def named_read_errors(place: object) -> Iterator[None]:
    """Turn Spark's error on a damaged file into a `DataError`. Spark raises it only when the rows are used."""
    try:
        yield
    except (Py4JJavaError, PySparkException) as error:
        message = str(error)
        if "[FAILED_READ_FILE" not in message:
            raise
        detail = message[message.index("[FAILED_READ_FILE") :].splitlines()[0]
        raise DataError(
            f"a file is damaged ({detail}).", file=place, remedy="write or copy the file again and compare its size."
        ) from error


def first_rows(frame: DataFrame, key: str = "item_id") -> DataFrame:
    """The first row of each key, in the order of the files; rows without a key are left out."""
    kept = frame.groupBy(key).agg(F.min("source_row").alias("source_row"))
    return frame.join(kept, [key, "source_row"])


def day_start(date: dt.date) -> int:
    """Unix seconds of a day's first instant, UTC."""
    return int(dt.datetime(date.year, date.month, date.day, tzinfo=dt.UTC).timestamp())


def future_horizon(settings: PipelineSettings) -> int:
    """Unix seconds beyond which a timestamp is an error: a day past the clock, or past the logical date if that is later."""
    return max(int(time.time()), day_start(settings.date) + DAY_SECONDS) + DAY_SECONDS


def _present(files: dict[str, UPath]) -> Iterator[InputTable]:
    return (table for table in (INTERACTIONS, ITEMS, IMAGES) if table.name in files)


def _files(folder: UPath) -> dict[str, UPath]:
    names = [path.name for path in children(folder)]
    found = {table.name: _find(folder, names, table) for table in (INTERACTIONS, ITEMS, IMAGES)}
    return {name: path for name, path in found.items() if path is not None}


def _digests(files: dict[str, UPath]) -> dict[str, str]:
    return {f"source/{name}": _content_digest(path) for name, path in sorted(files.items())}


def _find(folder: UPath, names: list[str], table: InputTable) -> UPath | None:
    for suffix in (".parquet", ".csv"):
        if table.name + suffix in names:
            return folder / (table.name + suffix)
    if not table.required:
        return None
    raise DataError(
        f"there is no {table.name}.parquet and no {table.name}.csv; found: {', '.join(names[:20]) or 'nothing'}.",
        file=folder / f"{table.name}.parquet",
        remedy=f"put the {table.name} table there under that name (docs/data-contract.md).",
    )


def _seconds(frame: DataFrame, settings: PipelineSettings) -> Column:
    kind = frame.schema["timestamp"].dataType.simpleString()
    column, per_second = F.col("timestamp"), UNITS_PER_SECOND[settings.data.timestamp_unit]
    if kind in ("timestamp", "timestamp_ntz"):
        # Cast in the session's zone, which is UTC; microseconds since 1970.
        return F.floor(F.unix_micros(column.cast("timestamp")) / 1_000_000).cast("bigint")
    if kind == "double":
        return F.floor(column / per_second).try_cast("bigint")
    if kind == "string":  # CSV: a number in the declared unit, or a date and time
        number = F.floor(column.try_cast("double") / per_second).try_cast("bigint")
        return F.coalesce(number, F.floor(F.unix_micros(column.try_cast("timestamp")) / 1_000_000).cast("bigint"))
    if frame.schema["timestamp"].metadata.get("nanoseconds"):
        per_second = 1_000_000_000
    return F.expr(f"timestamp div {per_second}")


def _check_log(interactions: DataFrame, file: UPath, settings: PipelineSettings) -> None:
    timestamp, start = F.col("timestamp"), day_start(settings.date)
    sane = F.when(timestamp.between(0, future_horizon(settings)), timestamp)
    row = interactions.agg(
        F.count(F.lit(1)).alias("rows"),
        F.percentile_approx(timestamp, 0.5).alias("median"),
        F.min(sane).alias("first"),
        F.max(sane).alias("last"),
        F.count_if((timestamp >= start) & (timestamp < start + DAY_SECONDS)).alias("on_date"),
    ).first()
    if row is None or row["rows"] == 0:
        raise DataError("the table is empty.", file=file, remedy="export it again; at least one event is needed.")
    if row["median"] is None:
        raise DataError(
            "the column holds no value that is a time.",
            file=file,
            column="timestamp",
            remedy="give Unix times as numbers, or timestamps such as 2026-01-28 10:30:00.",
        )
    _check_unit(row["median"], file, settings)
    if row["on_date"] == 0:
        first, last = (dt.datetime.fromtimestamp(row[name], dt.UTC).date() for name in ("first", "last"))
        raise DataError(
            f"no event falls on the logical date {settings.ds}; the log runs from {first} to {last}.",
            file=file,
            column="timestamp",
            remedy=f"choose a date that has events (the last one: {last}), or wait for that day's data.",
        )


def _check_unit(median_seconds: int, file: UPath, settings: PipelineSettings) -> None:
    declared = settings.data.timestamp_unit

    def plausible(seconds: float) -> bool:
        return day_start(dt.date(_FIRST_YEAR, 1, 1)) <= seconds < day_start(dt.date(_LAST_YEAR, 1, 1))

    if plausible(median_seconds):
        return
    raw = median_seconds * UNITS_PER_SECOND[declared]
    fits = [unit for unit, per_second in UNITS_PER_SECOND.items() if plausible(raw / per_second)]
    remedy = (
        f"set data.timestamp_unit to '{fits[0]}'."
        if fits
        else "check the export and data.timestamp_unit: in no unit (s, ms, us) do these values make sense as times."
    )
    raise DataError(
        f"the median value is about {raw:.4g}. Read as '{declared}', it lies outside the years {_FIRST_YEAR} to {_LAST_YEAR}"
        + (f"; read as '{fits[0]}', it makes sense." if fits else "."),
        file=file,
        column="timestamp",
        remedy=remedy,
    )


def _content_digest(path: UPath) -> str:
    digest = hashlib.sha256()
    for part in [path] if path.suffix == ".csv" else parquet_files(path):
        digest.update(bytes.fromhex(file_digest(part)))
    return digest.hexdigest()
