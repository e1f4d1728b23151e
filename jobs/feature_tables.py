"""What the visual and the textual features share: encode what is new or changed, carry over the rest, publish."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as pads
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.lake import Lake
from jobs.places import open_dataset
from jobs.settings import PipelineSettings
from jobs.spark_tables import read_table, write_table

COLUMNS = ("item_index", "item_id", "vector", "status", "content_hash", "encoder")
_SCHEMA = "item_index bigint, item_id string, vector array<float>, status string, content_hash string"
_LISTED = 20  # ids named in the manifest for each kind of trouble

Encode = Callable[[Sequence[Any]], list[np.ndarray | None]]


@dataclass(frozen=True)
class View:
    """One view of the items.

    Attributes:
        table: lake table to publish.
        encode: payloads to vectors, None where a payload gives none; it is sent to the workers.
        fingerprint: of the encoder; vectors with another one are never carried over.
        failed: status of an item whose payload gives no vector.
    """

    table: str
    encode: Encode
    fingerprint: str
    failed: str


def publish_view(
    spark: SparkSession, settings: PipelineSettings, view: View, items: DataFrame, *, extra_inputs: dict[str, str] | None = None
) -> dict[str, Any]:
    """Publish a feature table with one row for each item; only items whose content or encoder changed are encoded.

    Args:
        spark: the session.
        settings: gives the date; vectors are carried over from the latest earlier date of the same table.
        view: what to publish and how to encode it.
        items: item_index, item_id, payload (null: nothing to encode), status, content_hash (null without payload).
        extra_inputs: further inputs for the manifest.

    Returns:
        Counts: encoded, reused, ok, missing, unreadable; `dim`; and the first ids that are missing or unreadable.
    """
    lake = Lake.of(settings)
    date = lake.previous_date(view.table, settings.date)
    frame = items.withColumn("old_vector", F.lit(None).cast("array<float>")).withColumn(
        "old_status", F.lit(None).cast("string")
    )
    inputs = dict(extra_inputs or {})
    if date is not None:
        inputs[f"{view.table}/date={date}"] = lake.manifest(view.table, date)["digest"]
        old = (
            read_table(spark, settings, view.table, date=date)
            .where((F.col("encoder") == view.fingerprint) & F.col("content_hash").isNotNull())
            .select("item_id", "content_hash", F.col("vector").alias("old_vector"), F.col("status").alias("old_status"))
        )
        frame = items.join(old, ["item_id", "content_hash"], "left")
    frame = frame.withColumn("payload", F.when(F.col("old_status").isNull(), F.col("payload")))
    # A fixed number of partitions by key: left to itself, Spark would merge small inputs into one task.
    spread = frame.repartition(2 * spark.sparkContext.defaultParallelism, "item_index")
    encoded = spread.mapInPandas(_partition_encoder(view.encode, view.failed), _SCHEMA)
    with lake.write(view.table, settings, inputs=["items"], extra_inputs=inputs) as pending:
        rows, num_items = encoded.withColumn("encoder", F.lit(view.fingerprint)), lake.manifest("items", settings.date)["rows"]
        write_table(rows.select(*COLUMNS), pending, by=["item_index"], keys=num_items)
        dataset = open_dataset(pending.path)
        written = dataset.to_table(columns=["item_id", "status", "content_hash"]).to_pandas()
        kept = _carried_over(lake, view, date, written, settings)
        pending.stats |= _stats(written, kept)
        first = dataset.filter(pads.field("vector").is_valid()).head(1, columns=["vector"])
        pending.stats["dim"] = len(first["vector"][0]) if first.num_rows else 0
        return dict(pending.stats)


def _partition_encoder(encode: Encode, failed: str) -> Callable[[Iterator[pd.DataFrame]], Iterator[pd.DataFrame]]:
    def run(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            vectors, status = (
                list(batch["old_vector"]),
                list(batch["old_status"].where(batch["old_status"].notna(), batch["status"])),
            )
            rows = np.flatnonzero(batch["payload"].notna())
            for row, vector in zip(
                rows, encode([batch["payload"].iloc[row] for row in rows]) if len(rows) else [], strict=True
            ):
                vectors[row] = vector
                if vector is None:
                    status[row] = failed
            yield batch[["item_index", "item_id"]].assign(
                vector=pd.Series(vectors, index=batch.index, dtype=object), status=status, content_hash=batch["content_hash"]
            )

    return run


def _carried_over(lake: Lake, view: View, date: Any, written: pd.DataFrame, settings: PipelineSettings) -> pd.Series:
    if date is None:
        return pd.Series(False, index=written.index)
    old = lake.read_pandas(view.table, date, ["item_id", "content_hash", "encoder"])
    same = old[(old["encoder"] == view.fingerprint) & old["content_hash"].notna()].set_index("item_id")["content_hash"]
    return written["content_hash"].notna() & (written["item_id"].map(same) == written["content_hash"])


def _stats(written: pd.DataFrame, kept: pd.Series) -> dict[str, Any]:
    ok = written["status"] == "ok"
    stats: dict[str, Any] = {"encoded": int((ok & ~kept).sum()), "reused": int((ok & kept).sum()), "ok": int(ok.sum())}
    for status in ("missing", "unreadable"):
        found = written["status"] == status
        stats[status] = int(found.sum())
        stats[f"{status}_items"] = written.loc[found, "item_id"].head(_LISTED).tolist()
    return stats
