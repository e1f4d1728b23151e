"""The tables a user brings, checked against the data contract and brought to one form.

A table that cannot be used stops the run here, with a `DataError` that names file, column and remedy. Single bad rows pass, and
ingest sets them aside. The source is the one of `<run_dir>/source.json` if the run has frozen one, else that of the settings.
"""

import datetime as dt
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import existing_folder, place
from jobs.base.sessions import SESSION
from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.landing.contract import INPUT_TABLES, InputTable
from jobs.landing.dates import check_times, is_sane
from jobs.landing.land import land
from jobs.landing.mapping import DataMapping, with_attributes
from jobs.landing.records import Landing
from jobs.source.files import open_table

DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Source:
    """The input tables in one form. Ids are strings, null if blank. Every optional column is there, null if it was not given.

    Attributes:
        folder: where the tables lie; relative picture paths start here.
        landing: what landing left: the files behind each table, and what was seen in them.
        mapping: what the owner says about kinds of events, ratings and repeats.
        interactions: user_id string, item_id string, timestamp int64 (UTC s, null where unusable), kind string, rating double,
            source_row. Where there is no user, the session stands for it.
        items: item_id, title, text, image_path string, image_paths array<string>, image binary, available bool,
            available_from and available_until int64 (UTC s), the attributes that the mapping names, source_row.
        images: item_id string, image binary, image_path string, source_row; None if the source has no such table.
        users: user_id string, the attributes that the mapping names, source_row; None if the mapping names none.

    `source_row` is a struct (file string, row int64) that orders rows as the files give them.
    """

    folder: UPath
    landing: Landing
    mapping: DataMapping
    interactions: DataFrame
    items: DataFrame
    images: DataFrame | None
    users: DataFrame | None = None

    def digests(self) -> dict[str, str]:
        """SHA-256 of the content of each input table, for the lineage of what is made from it."""
        return self.landing.digests()

    def file(self, table: str) -> str:
        """File or folder of a table, for messages."""
        return self.landing.tables[table].place


def read_source(spark: SparkSession, settings: PipelineSettings, *, check_log: bool = True) -> Source:
    """Open the input tables.

    Args:
        spark: session to read with.
        settings: gives the source, the timestamp unit and the logical date.
        check_log: whether to check that the log's timestamps make sense and that the logical date has events.

    Raises:
        DataError: a table or column is missing, a file cannot be read, a column has another type, a table is empty,
            timestamps are in another unit than declared, or the logical date has no events.
    """
    landing = landed(settings)
    folder, mapping = place(landing.folder), DataMapping.model_validate(landing.mapping)
    with named_read_errors(folder):
        frames = {table.name: open_table(spark, table, landing.tables[table.name]) for table in _present(landing, mapping)}
        if check_log and not _counted_well(landing, settings):
            _check_log(frames["interactions"], landing, settings)
    for name, key in (("items", "item_id"), ("users", "user_id")):
        if name in frames and getattr(mapping, name).repeated_ids == "first":
            frames[name] = first_rows(frames[name], key)
    for name in {"items", "images"} & frames.keys():
        frames[name] = _with_whole_urls(frames[name])
    log = _with_users(frames["interactions"], landing)
    return Source(folder, landing, mapping, log, frames["items"], frames.get("images"), frames.get("users"))


def _with_whole_urls(rows: DataFrame) -> DataFrame:
    """Give URLs of pictures that start with `//` and a server, as web pages write them, the https that they stand for."""

    def whole(path: Column | str) -> Column:
        return F.regexp_replace(path, r"^\s*//(?=[^/\s]+\.[^/\s]+/)", "https://")

    rows = rows.withColumn("image_path", whole("image_path"))
    return rows.withColumn("image_paths", F.transform("image_paths", whole)) if "image_paths" in rows.columns else rows


def _with_users(interactions: DataFrame, landing: Landing) -> DataFrame:
    """Give events without a user that of their session; a session without any user becomes a user of its own.

    Two users in one session (somebody logged out and another one in) leave the events without a user to the session.
    """
    if not any("session_id" in part.samples for part in landing.tables["interactions"].parts):
        return interactions.drop("session_id")
    session = Window.partitionBy(F.coalesce("session_id", F.concat(F.lit("user "), "user_id")))  # else nulls meet in one task
    one = F.min("user_id").over(session) == F.max("user_id").over(session)
    of_session = F.when(one, F.min("user_id").over(session)).otherwise(F.concat(F.lit(SESSION), "session_id"))
    known = F.coalesce("user_id", F.when(F.col("session_id").isNotNull(), of_session))
    return interactions.withColumn("user_id", known).drop("session_id")


def landed(settings: PipelineSettings) -> Landing:
    """The source as the run has landed it; it is landed now if the run has frozen none. Raises `DataError` as `land` does."""
    frozen = _frozen(settings)
    if frozen is not None and "landing" in frozen:
        return Landing.from_json(frozen["landing"])
    return land(source_folder(settings), settings, settings.home / "landing")


def source_digests(settings: PipelineSettings) -> dict[str, str]:
    """Where the source lies, and the digest of each of its tables. Raises `DataError` if a table is missing."""
    landing = landed(settings)
    return {"source": landing.folder, **landing.digests()}


def source_folder(settings: PipelineSettings) -> UPath:
    """The folder of the source. Raises `DataError` if there is none."""
    frozen = _frozen(settings)
    if frozen is not None:
        uri = str(frozen["uri"])
    elif settings.data.source == EMBEDDED:
        uri = str(settings.home / "source" / f"date={settings.ds}")
    else:
        uri = settings.data.source
    return existing_folder(uri)


def _frozen(settings: PipelineSettings) -> dict[str, Any] | None:
    path = settings.run_dir / "source.json"
    return json.loads(path.read_text()) if path.exists() else None


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


def _present(landing: Landing, mapping: DataMapping) -> Iterator[InputTable]:
    present = (table for table in INPUT_TABLES if table.name in landing.tables)
    return (with_attributes(table, mapping.of(table)[0]) for table in present)


def _counted_well(landing: Landing, settings: PipelineSettings) -> bool:
    """Whether what landing counted already shows that `_check_log`, which reads the log, would find no fault.

    The median is sane if more than half of the times are.
    """
    log, day = landing.tables["interactions"], settings.ds
    times = log.rows - sum(part.missing.get("timestamp", 0) for part in log.parts)
    sane = sum(count for of, count in log.days.items() if is_sane(of))
    return bool(log.days.get(day)) and 2 * sane > times


def _check_log(interactions: DataFrame, landing: Landing, settings: PipelineSettings) -> None:
    file = landing.tables["interactions"].place
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
    check_times(row["median"], landing, settings)
    if row["on_date"] == 0:
        first, last = (dt.datetime.fromtimestamp(row[name], dt.UTC).date() for name in ("first", "last"))
        raise DataError(
            f"no event falls on the logical date {settings.ds}; the log runs from {first} to {last}.",
            file=file,
            column="timestamp",
            remedy=f"choose a date that has events (the last one: {last}), or wait for that day's data.",
        )
