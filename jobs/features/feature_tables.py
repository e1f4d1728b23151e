"""Publishes the visual and the textual features: encodes what is new or changed, and carries over the rest.

A payload (the bytes of a picture) is moved only if it must be. First, every item is marked by what is cheap to know of its
content: a hash, or a file's stamp. Then the marks are compared with earlier tables. Only the items that are left are loaded,
spread over the workers and encoded.
"""

import gc
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.features.counts import counts_of_items
from jobs.features.kept_vectors import known_vectors, retire_vectors
from jobs.features.several_pictures import one_row_for_each_item
from jobs.lake.spark_tables import readable, write_table
from jobs.lake.tables import Lake

COLUMNS = ("item_index", "item_id", "vector", "status", "content_hash", "encoder")
CONTENT_COLUMNS = (*COLUMNS, "file_stamp", "traits")
MARKS = ("item_index", "item_id", "status", "content_hash", "file_stamp", "traits")

_KEY = ("item_id", "rank", "content_hash")
_KNOWN = ("again", "rank", "status", "content_hash", "file_stamp", "traits")  # the least is used, so the order counts
_PLACE = {"place": 0, "num_pictures": 1}  # of a content that is the only one of its item
_ENCODED = "item_index bigint, place int, new_hash string, new_status string, new_traits array<string>, new_vector array<float>"
_SAME = "same"  # the status that a worker gives if the content has the known hash after all
# The number of tasks depends only on the number of items to encode. If it depended on the number of cores, the batches of a
# model encoder, and so the last bits of its vectors, would differ from machine to machine. A task costs 0.06 s of overhead.
_ITEMS_PER_TASK, _MAX_TASKS = 1024, 10_000
_BROADCAST_ITEMS = 100_000  # up to so many items, the table of payloads is filtered where it is read, not shuffled


class Encoder(Protocol):
    """Turns payloads into vectors of one length."""

    @property
    def fingerprint(self) -> str:
        """Stands for all that decides a vector. Vectors with another fingerprint are never carried over."""
        ...

    def prepare(self, payload: Any) -> tuple[Any | None, Sequence[str]]:
        """The payload, small and ready to encode (None if it is unreadable), and the traits that were found in it."""
        ...

    def encode(self, prepared: Sequence[Any]) -> np.ndarray:
        """Prepared payloads to float32 [len(prepared), D]. A payload that the encoder knows nothing of gives zeros."""
        ...


@dataclass(frozen=True)
class View:
    """One view of the items.

    Attributes:
        table: lake table to publish.
        encoder: function that gives the encoder. It is sent to the workers and called there for each task, so it should cache.
        fingerprint: fingerprint of that encoder.
        marks: item_index, item_id, status (`ok`: to be encoded or carried over; any other status stays), content_hash (null
            if only the file was looked at), file_stamp (null if there is no file), traits; and what `load` needs. Where items
            may have several contents, there is a row for each, and place and num_pictures as `mark_images` gives them.
        load: takes the rows of `marks` to encode, with `known_hashes`; gives item_index, place, known_hashes and what `read`
            needs.
        read: takes one row of `load` and gives its payload, on the worker; None if it is gone.
        failed: status of an item whose payload gives no vector.
    """

    table: str
    encoder: Callable[[], Encoder]
    fingerprint: str
    marks: DataFrame
    load: Callable[[DataFrame], DataFrame]
    read: Callable[[Mapping[str, Any]], bytes | str | None]
    failed: str


def publish_view(
    spark: SparkSession,
    settings: PipelineSettings,
    view: View,
    *,
    extra_inputs: Mapping[str, str] | None = None,
    extra_stats: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Publish a feature table with one row for each item. Only items whose content or encoder has changed are encoded.

    Vectors are taken, in this order, from an earlier run of the date, from the latest earlier date, and from those kept of
    items that had gone by then. What could not be read is tried again on a later date. A rerun of the same date tries it again
    only if it has changed.

    Args:
        spark: the session.
        settings: gives the date, and says how long the vectors of items that have gone are kept.
        view: what to publish and how to encode it.
        extra_inputs: further inputs for the manifest.
        extra_stats: further counts for the manifest.

    Returns:
        Numbers of contents that were encoded, reused and retried, and what `counts_of_items` says of the table.
    """
    lake = Lake.of(settings)
    known, inputs = known_vectors(spark, settings, view.table, view.fingerprint)
    plan = _plan(view, known, read_stamped=not settings.features.read_unchanged_files).persist(StorageLevel.MEMORY_AND_DISK)
    encoded = _encode(spark, settings, view, plan).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        contents = _contents(plan, encoded)
        rows = contents.join(known.select(*_KEY, "vector"), [*_KEY], "left").select(
            *MARKS, *_PLACE, F.coalesce("vector", "new_vector").alias("vector"), F.lit(view.fingerprint).alias("encoder")
        )
        several = plan.where("num_pictures > 1").limit(1).count() > 0
        columns = (*CONTENT_COLUMNS, "pictures") if several else CONTENT_COLUMNS
        with lake.write(view.table, settings, inputs=["items"], extra_inputs=inputs | dict(extra_inputs or {})) as pending:
            items = (one_row_for_each_item(rows) if several else rows).select(*columns)
            write_table(items, pending, by=["item_index"], keys=lake.manifest("items", settings.date)["rows"])
            pending.stats |= _work(contents) | counts_of_items(spark.read.parquet(readable(spark, pending.path)))
            pending.stats |= dict(extra_stats or {})
        retire_vectors(spark, settings, view.table, known, inputs)
        return dict(pending.stats)
    finally:
        encoded.unpersist()
        plan.unpersist()


def _plan(view: View, known: DataFrame, *, read_stamped: bool) -> DataFrame:
    """The marks, with what is known of the item's contents, with that of the same content, and `kept`, whether it still holds.

    Args:
        view: gives the marks.
        known: see `known_vectors`.
        read_stamped: whether a file counts as unchanged if it has the stamp that it had when it was read.
    """
    of_item = known.groupBy("item_id").agg(F.collect_list(F.struct(*_KNOWN)).alias("all_known"))
    marks = view.marks
    for name, default in _PLACE.items():
        if name not in marks.columns:
            marks = marks.withColumn(name, F.lit(default))

    def same(row: Column) -> Column:
        by_hash = row["content_hash"] == F.col("content_hash")
        return F.coalesce(by_hash, (row["file_stamp"] == F.col("file_stamp")) & F.lit(read_stamped), F.lit(False))

    found = marks.join(of_item, "item_id", "left").withColumn("known", F.array_min(F.filter("all_known", same)))
    kept = (F.col("status") == "ok") & ~F.col("known.again")
    return found.withColumn("kept", F.coalesce(kept, F.lit(False)))


def _encode(spark: SparkSession, settings: PipelineSettings, view: View, plan: DataFrame) -> DataFrame:
    """Encode on the workers what the plan does not keep. Returns the columns `_ENCODED`."""
    hashes = F.transform(F.filter("all_known", lambda row: ~row["again"]), lambda row: row["content_hash"])
    wanted = plan.where("status = 'ok' and not kept").withColumn("known_hashes", hashes)
    count = wanted.count()
    if not count:
        return spark.createDataFrame([], _ENCODED)
    payloads = view.load(F.broadcast(wanted) if count <= _BROADCAST_ITEMS else wanted)
    tasks = min(-(-count // _ITEMS_PER_TASK), _MAX_TASKS)
    spread = payloads.repartition(tasks, "item_index").sortWithinPartitions("item_index", "place")
    return spread.mapInArrow(_worker(view.encoder, view.read, view.failed, settings.features.encode_batch_size), _ENCODED)


def _worker(
    encoder: Callable[[], Encoder], read: Callable[[Mapping[str, Any]], bytes | str | None], failed: str, batch_size: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        loaded = encoder()
        gc.freeze()  # Spark's worker collects garbage after each task, which takes 65 ms for libraries that stay anyway
        for batch in batches:
            for start in range(0, batch.num_rows, batch_size):
                yield _encode_rows(loaded, read, failed, batch.slice(start, batch_size))

    return run


def _encode_rows(
    encoder: Encoder, read: Callable[[Mapping[str, Any]], bytes | str | None], failed: str, batch: pa.RecordBatch
) -> pa.RecordBatch:
    """Encode one batch of payloads. Each payload is dropped as soon as it has been made small."""
    results, ready = [], []
    for number in range(batch.num_rows):
        row = {name: column[number].as_py() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
        result: dict[str, Any] = {"item_index": row["item_index"], "place": row["place"]}
        result |= {"new_hash": None, "new_status": "missing", "new_traits": []}
        results.append(result | {"new_vector": None})
        payload = read(row)
        if payload is None:
            continue
        content = payload.encode() if isinstance(payload, str) else payload
        results[-1]["new_hash"] = hashlib.sha256(content).hexdigest()
        if results[-1]["new_hash"] in (row["known_hashes"] or ()):
            results[-1]["new_status"] = _SAME
            continue
        prepared, traits = encoder.prepare(payload)
        results[-1] |= {"new_status": failed, "new_traits": sorted(traits)}
        if prepared is not None:
            ready.append((results[-1], prepared))
    if ready:
        for (result, _), vector in zip(ready, encoder.encode([prepared for _, prepared in ready]), strict=True):
            if vector.any():
                result |= {"new_status": "ok", "new_vector": vector}
    schema = pa.schema(
        [
            ("item_index", pa.int64()),
            ("place", pa.int32()),
            ("new_hash", pa.string()),
            ("new_status", pa.string()),
            ("new_traits", pa.list_(pa.string())),
            ("new_vector", pa.list_(pa.float32())),
        ]
    )
    return pa.RecordBatch.from_pylist(results, schema=schema)


def _contents(plan: DataFrame, encoded: DataFrame) -> DataFrame:
    """Rows of contents, with `new_vector` or with the `rank` of the known row that has the vector; and `again`, `tried`."""
    is_same = F.coalesce(F.col("new_status") == _SAME, F.lit(False))
    read = F.array_min(F.filter("all_known", lambda row: ~row["again"] & (row["content_hash"] == F.col("new_hash"))))
    carried = F.when(F.col("kept"), F.col("known")).when(is_same, read)

    def choose(name: str, new: str) -> Column:
        return F.when(carried.isNotNull(), carried[name]).otherwise(F.coalesce(new, name)).alias(name)

    return plan.join(encoded, ["item_index", "place"], "left").select(
        "item_index",
        "item_id",
        *_PLACE,
        choose("status", "new_status"),
        F.coalesce("content_hash", "new_hash", carried["content_hash"]).alias("content_hash"),
        "file_stamp",
        choose("traits", "new_traits"),
        carried["rank"].alias("rank"),
        F.coalesce("known.again", F.lit(False)).alias("again"),
        F.col("new_status").isNotNull().alias("tried"),
        "new_vector",
    )


def _work(contents: DataFrame) -> dict[str, Any]:
    """How many contents were encoded, carried over, and tried once more."""
    ok, carried = F.col("status") == "ok", F.col("rank").isNotNull()
    row = contents.agg(
        F.count_if(ok & ~carried).alias("encoded"),
        F.count_if(ok & carried).alias("reused"),
        F.count_if(F.col("again") & F.col("tried")).alias("retried"),
    ).collect()[0]
    return row.asDict()
