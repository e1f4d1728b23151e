"""Publishes the visual and the textual features: encodes what is new or changed, and carries over the rest.

A payload (the bytes of a picture) is moved only if it must be. First, every item is marked by what is cheap to know of its
content: a hash, or a file's stamp. Then the marks are compared with earlier tables. Only the items that are left are loaded,
spread over the workers and encoded.
"""

import gc
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.features.kept_vectors import known_vectors, retire_vectors
from jobs.lake.spark_tables import readable, write_table
from jobs.lake.tables import Lake

COLUMNS = ("item_index", "item_id", "vector", "status", "content_hash", "encoder")
CONTENT_COLUMNS = (*COLUMNS, "file_stamp", "traits")
MARKS = ("item_index", "item_id", "status", "content_hash", "file_stamp", "traits")

_ENCODED = "item_index bigint, new_hash string, new_status string, new_traits array<string>, new_vector array<float>"
_SAME = "same"  # the status that a worker gives if the content has the known hash after all
_LISTED = 20  # number of ids listed in the manifest for each bad status
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
            if only the file was looked at), file_stamp (null if there is no file), traits; and what `load` needs.
        load: takes the rows of `marks` to encode, with `known_hash`; gives item_index, known_hash and what `read` needs.
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
    spark: SparkSession, settings: PipelineSettings, view: View, *, extra_inputs: Mapping[str, str] | None = None
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

    Returns:
        Counts: encoded, reused, retried, ok, missing, unreadable; `traits`, the number of items that have each; `dim`; and the
        first ids of items that are missing or unreadable.
    """
    lake = Lake.of(settings)
    known, inputs = known_vectors(spark, settings, view.table, view.fingerprint)
    plan = _plan(view, known, read_stamped=not settings.features.read_unchanged_files).persist(StorageLevel.MEMORY_AND_DISK)
    encoded = _encode(spark, settings, view, plan).persist(StorageLevel.MEMORY_AND_DISK)
    try:
        rows = _rows(plan, encoded)
        table = (
            rows.join(known.select("item_id", "rank", "vector"), ["item_id", "rank"], "left")
            .select(*MARKS, F.coalesce("vector", "new_vector").alias("vector"), F.lit(view.fingerprint).alias("encoder"))
            .select(*CONTENT_COLUMNS)
        )
        with lake.write(view.table, settings, inputs=["items"], extra_inputs=inputs | dict(extra_inputs or {})) as pending:
            write_table(table, pending, by=["item_index"], keys=lake.manifest("items", settings.date)["rows"])
            pending.stats |= _stats(rows)
            first = (
                spark.read.parquet(readable(spark, pending.path)).where("vector is not null").select(F.size("vector")).first()
            )
            pending.stats["dim"] = first[0] if first else 0
        retire_vectors(spark, settings, view.table, known, inputs)
        return dict(pending.stats)
    finally:
        encoded.unpersist()
        plan.unpersist()


def _plan(view: View, known: DataFrame, *, read_stamped: bool) -> DataFrame:
    """The marks, with the best known row of each item and `kept`, whether that row still holds.

    Args:
        view: gives the marks.
        known: see `known_vectors`.
        read_stamped: whether a file counts as unchanged if it has the stamp that it had when it was read.
    """
    fields = ("again", "rank", "status", "content_hash", "file_stamp", "traits")
    best = known.groupBy("item_id").agg(F.min_by(F.struct(*fields), F.struct("again", "rank")).alias("known"))
    same = F.col("content_hash") == F.col("known.content_hash")
    if read_stamped:
        same = F.coalesce(same, F.col("file_stamp") == F.col("known.file_stamp"))
    kept = (F.col("status") == "ok") & ~F.col("known.again") & same
    return view.marks.join(best, "item_id", "left").withColumn("kept", F.coalesce(kept, F.lit(False)))


def _encode(spark: SparkSession, settings: PipelineSettings, view: View, plan: DataFrame) -> DataFrame:
    """Encode on the workers what the plan does not keep. Returns the columns `_ENCODED`."""
    known_hash = F.when(~F.col("known.again"), F.col("known.content_hash"))
    wanted = plan.where("status = 'ok' and not kept").withColumn("known_hash", known_hash)
    count = wanted.count()
    if not count:
        return spark.createDataFrame([], _ENCODED)
    payloads = view.load(F.broadcast(wanted) if count <= _BROADCAST_ITEMS else wanted)
    tasks = min(-(-count // _ITEMS_PER_TASK), _MAX_TASKS)
    spread = payloads.repartition(tasks, "item_index").sortWithinPartitions("item_index")
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
        result: dict[str, Any] = {"item_index": row["item_index"], "new_hash": None, "new_status": "missing", "new_traits": []}
        results.append(result | {"new_vector": None})
        payload = read(row)
        if payload is None:
            continue
        content = payload.encode() if isinstance(payload, str) else payload
        results[-1]["new_hash"] = hashlib.sha256(content).hexdigest()
        if results[-1]["new_hash"] == row["known_hash"]:
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
            ("new_hash", pa.string()),
            ("new_status", pa.string()),
            ("new_traits", pa.list_(pa.string())),
            ("new_vector", pa.list_(pa.float32())),
        ]
    )
    return pa.RecordBatch.from_pylist(results, schema=schema)


def _rows(plan: DataFrame, encoded: DataFrame) -> DataFrame:
    """Rows of the table, with `new_vector` or with the `rank` of the known row that has the vector; and `again`, `tried`."""
    carried = F.col("kept") | F.coalesce(F.col("new_status") == _SAME, F.lit(False))

    def choose(name: str, new: str) -> Any:
        return F.when(carried, F.col(f"known.{name}")).otherwise(F.coalesce(new, name)).alias(name)

    return plan.join(encoded, "item_index", "left").select(
        "item_index",
        "item_id",
        choose("status", "new_status"),
        F.coalesce("content_hash", "new_hash", F.when(carried, F.col("known.content_hash"))).alias("content_hash"),
        "file_stamp",
        choose("traits", "new_traits"),
        F.when(carried, F.col("known.rank")).alias("rank"),
        F.coalesce("known.again", F.lit(False)).alias("again"),
        F.col("new_status").isNotNull().alias("tried"),
        "new_vector",
    )


def _stats(rows: DataFrame) -> dict[str, Any]:
    groups = rows.groupBy("status", F.col("rank").isNotNull().alias("carried"), "again", "tried", "traits").count().collect()

    def count(**wanted: Any) -> int:
        return sum(row["count"] for row in groups if all(row[name] == value for name, value in wanted.items()))

    traits: Counter[str] = Counter()
    for row in groups:
        traits.update(dict.fromkeys(row["traits"] or [], row["count"]))
    stats: dict[str, Any] = {
        "encoded": count(status="ok", carried=False),
        "reused": count(status="ok", carried=True),
        "retried": count(again=True, tried=True),
        "ok": count(status="ok"),
        "traits": dict(sorted(traits.items())),
    }
    for status in ("missing", "unreadable"):
        stats[status] = count(status=status)
        first = rows.where(F.col("status") == status).orderBy("item_index").limit(_LISTED) if stats[status] else None
        stats[f"{status}_items"] = [row["item_id"] for row in first.select("item_id").collect()] if first is not None else []
    return stats
