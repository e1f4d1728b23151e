"""Catalogues and logs of any size, made by Spark itself: a source as a user would bring it, and the views of its items.

Items belong to tastes, and each view shows the taste with noise of its own, so that there are clusters to find. Users keep to
one taste most of the time. The same size gives the same rows.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.lake.spark_tables import write_table
from jobs.lake.tables import Lake

DATE = dt.date(2026, 1, 28)
VIEWS = {"visual": 64, "text": 64, "behaviour": 32}
EVENTS_PER_USER = 20
_MOST_TASTES, _ITEMS_PER_TASTE = 1_000, 100  # at most so many tastes, and at least so many items of each
_TASTE_SHARE = 0.8
_DAY = 86_400
_ROWS_PER_TASK = 200_000
_FEATURES = "item_index long, item_id string, vector array<float>, status string, content_hash string, encoder string"
_CONSTANT = {"status": "ok", "content_hash": "0" * 16}
_EVENTS = "user_id string, item_id string, timestamp long"

ArrowFunction = Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]


def make_settings(home: Path, date: dt.date = DATE, **sections: Mapping[str, Any]) -> PipelineSettings:
    """The settings of a separate world, frozen in `<run_dir>/settings.json` as for a run."""
    source = {"source": str(home / "source")}
    settings = PipelineSettings(date=date, home=home, **({"data": source} | sections))  # type: ignore[arg-type]
    write_json(settings.run_dir / "settings.json", settings.model_dump(mode="json"))
    return settings


def write_source(spark: SparkSession, settings: PipelineSettings, num_items: int, num_users: int) -> None:
    """Write `items.parquet` and `interactions.parquet` to the source folder; the last events are on the logical date."""
    items = _numbers(spark, num_items, "item_index").select(
        _item_id(), F.format_string("thing %d", "item_index").alias("title"), F.lit("made to be counted").alias("text")
    )
    items.write.mode("overwrite").parquet(f"{settings.data.source}/items.parquet")
    events = _numbers(spark, num_users, "user_index").mapInArrow(_events(num_items), _EVENTS)
    events.write.mode("overwrite").parquet(f"{settings.data.source}/interactions.parquet")


def write_items(spark: SparkSession, settings: PipelineSettings, num_items: int) -> None:
    """Publish `items` without ingest; few are popular."""
    popularity = F.floor(F.lit(num_items) / (F.col("item_index") + 1)).alias("num_train")
    items = _numbers(spark, num_items, "item_index").select("item_index", _item_id(), popularity)
    with Lake.of(settings).write("items", settings) as pending:
        write_table(items, pending, by=["item_index"], keys=num_items)


def write_views(spark: SparkSession, settings: PipelineSettings, num_items: int, views: Iterable[str]) -> None:
    """Publish feature tables for items that are numbered already."""
    for number, name in enumerate(views):
        width = VIEWS[name]
        rows = _numbers(spark, num_items, "item_index").select("item_index", _item_id())
        with Lake.of(settings).write(f"{name}_features", settings, inputs=["items"]) as pending:
            vectors = rows.mapInArrow(_vectors(f"{name}:1", number, width, _num_tastes(num_items)), _FEATURES)
            write_table(vectors, pending, by=["item_index"], keys=num_items)


def write_sequences(spark: SparkSession, settings: PipelineSettings, num_items: int, num_users: int) -> None:
    """Publish `sequences` without the steps before it."""
    rows = _numbers(spark, num_users, "user_index").mapInArrow(_events(num_items), _EVENTS)
    events = F.array_sort(F.collect_list(F.struct("timestamp", F.expr("cast(substr(item_id, 2) as bigint)").alias("item"))))
    held_out = max(1, EVENTS_PER_USER // 10)
    counts = {"num_train": EVENTS_PER_USER - 2 * held_out, "num_validation": held_out, "num_holdout": held_out}
    sequences = rows.groupBy("user_id").agg(events.alias("events")).select(
        F.expr("cast(substr(user_id, 2) as bigint)").alias("user_index"),
        F.col("events.item").alias("item_index"),
        F.col("events.timestamp").alias("timestamp"),
        *(F.lit(count).cast("int").alias(name) for name, count in counts.items()),
    )  # fmt: skip
    with Lake.of(settings).write("sequences", settings) as pending:
        write_table(sequences, pending, by=["user_index"], keys=num_users, row_group_mb=8)


def _numbers(spark: SparkSession, count: int, name: str) -> Any:
    return spark.range(0, count, 1, max(4, count // _ROWS_PER_TASK)).withColumnRenamed("id", name)


def _num_tastes(num_items: int) -> int:
    return max(1, min(_MOST_TASTES, num_items // _ITEMS_PER_TASTE))


def _item_id() -> Column:
    return F.format_string("i%010d", "item_index").alias("item_id")


def _vectors(encoder: str, number: int, width: int, num_tastes: int) -> ArrowFunction:
    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        centres = np.random.default_rng(number).standard_normal((num_tastes, width), dtype=np.float32)
        for batch in batches:
            items = batch["item_index"].to_numpy()
            random = np.random.default_rng([number, *items[:1]])
            vectors = centres[items % num_tastes] + random.standard_normal((len(items), width), dtype=np.float32)
            offsets = np.arange(0, vectors.size + 1, width, dtype=np.int32)
            constant = _CONSTANT | {"encoder": encoder}
            columns = [batch["item_index"], batch["item_id"], pa.ListArray.from_arrays(offsets, vectors.ravel())]
            columns += [pa.array([value] * len(items)) for value in constant.values()]
            yield pa.RecordBatch.from_arrays(columns, ["item_index", "item_id", "vector", *constant])

    return make


def _events(num_items: int) -> ArrowFunction:
    num_tastes = _num_tastes(num_items)
    end = int(dt.datetime(DATE.year, DATE.month, DATE.day, tzinfo=dt.UTC).timestamp()) + _DAY

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            users = batch["user_index"].to_numpy()
            random, shape = np.random.default_rng(users[:1]), (len(users), EVENTS_PER_USER)
            # One event in each twentieth of a taste's items, in any order, so that no user meets an item twice. Ingest would
            # drop the second event.
            place = random.permuted(np.arange(EVENTS_PER_USER) + random.random(shape), axis=1) / EVENTS_PER_USER
            own = random.random(shape) < _TASTE_SHARE
            taste = np.where(own, users[:, None] % num_tastes, random.integers(0, num_tastes, shape))
            items = ((num_items // num_tastes * place).astype(np.int64) * num_tastes + taste).ravel()
            days = _DAY * np.arange(-EVENTS_PER_USER, 0)
            times = (end + days + random.integers(0, _DAY, shape)).ravel()
            columns = [_ids("u", np.repeat(users, EVENTS_PER_USER)), _ids("i", items), pa.array(times)]
            yield pa.RecordBatch.from_arrays(columns, ["user_id", "item_id", "timestamp"])

    return make


def _ids(letter: str, numbers: np.ndarray) -> pa.Array:
    return pa.array(np.char.add(letter, np.char.zfill(numbers.astype("U10"), 10)))
