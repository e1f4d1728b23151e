"""Assign every item of the date to its primary and secondary cluster, in Spark, by broadcast codebooks.

It reads the three feature tables and `codebooks`. It writes `clusters`, with the label churn since the last accepted date, and
`cluster_index`, which a training run maps into memory.
"""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from threadpoolctl import threadpool_limits

from esans_core.clusters.alignment import AlignmentHeads
from esans_core.clusters.cluster_index_writer import write_cluster_index
from esans_core.clusters.codebooks import Codebooks
from jobs.base.places import local_draft
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.clusters.codebook_store import load_codebooks
from jobs.clusters.history import accepted_date, accepted_digests
from jobs.clusters.labels import describe_labels, stream_labels
from jobs.lake.item_tables import ItemTable
from jobs.lake.spark_tables import read_table, readable, write_table
from jobs.lake.tables import Lake, Pending
from jobs.lake.views import FEATURE_TABLES, feature_tables, view_batches

log = logging.getLogger(__name__)

SCHEMA = (
    "item_index long, item_id string, primary int, secondary int, "
    "has_visual boolean, has_text boolean, has_behaviour boolean, distance float"
)
CONTENT_TABLES = FEATURE_TABLES[:2]  # an item is unchanged if its picture and its text are those of yesterday
_NO_DISTORTION = 1e-9  # a squared distance of unit vectors; anything less is rounding
_SPAN_ROWS = 32_768  # fewest items of a task: with fewer, the time to open the tables matters


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Assign and publish the clusters of the date, and their index.

    Raises:
        DataError: the feature tables do not hold the same items, or a vector holds NaN or infinity.
    """
    lake = Lake.of(settings)
    heads, codebooks, _ = load_codebooks(lake.path("codebooks", settings.date))
    tables, previous = feature_tables(settings), accepted_date(settings, "clusters")
    with (
        spark_session(settings, "assign_clusters") as spark,
        lake.write(
            "clusters", settings, inputs=[*FEATURE_TABLES, "codebooks"], extra_inputs=accepted_digests(settings, "clusters")
        ) as pending,
    ):
        _assign(spark, pending, heads, codebooks, tables)
        pending.stats = describe_labels(ItemTable.at("clusters", pending.path), codebooks)
        pending.stats |= _growth(lake, previous, pending.stats["primary"]["distortion"])
        pending.stats["churn"] = _churn(spark, settings, pending, previous) if previous else None
    log.info("churn since %s: %s", previous, pending.stats["churn"])
    with lake.write("cluster_index", settings, inputs=["clusters"]) as index:
        labels = ItemTable.of(settings, "clusters")
        with local_draft(index.path) as folder:
            write_cluster_index(folder, lambda: stream_labels(labels), len(codebooks.primary_PD))
    return pending.stats


def _assign(
    spark: SparkSession, pending: Pending, heads: AlignmentHeads, codebooks: Codebooks, tables: Mapping[str, ItemTable]
) -> None:
    try:
        write_table(
            assigned(spark, heads, codebooks, tables),
            pending,
            by=["item_index"],
            keys=max(table.num_rows for table in tables.values()),
        )
    except PySparkException:
        for _ in view_batches(tables, heads.input_dims):  # if the tables are at fault, this raises a `DataError`
            pass
        raise


def assigned(spark: SparkSession, heads: AlignmentHeads, codebooks: Codebooks, tables: Mapping[str, ItemTable]) -> DataFrame:
    """The clusters of every item, with the columns of `SCHEMA`."""
    # A task reads its own rows of the feature tables. The JVM would turn every vector into a row object and back, which
    # takes longer than the assignment (docs/LOG.md).
    spans = max(tables.values(), key=lambda table: len(table.row_groups)).spans(_SPAN_ROWS)
    assign = _assigner(spark, heads, codebooks, tables, spans)
    return spark.range(0, len(spans), 1, len(spans)).mapInArrow(assign, SCHEMA)


def _assigner(
    spark: SparkSession,
    heads: AlignmentHeads,
    codebooks: Codebooks,
    tables: Mapping[str, ItemTable],
    spans: list[tuple[int, int]],
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: turns batches of span numbers (column `id`) into batches of `SCHEMA`.

    Args:
        spark: the session.
        heads: alignment of the views.
        codebooks: the codes that items are assigned to.
        tables: the feature table of each modality.
        spans: runs of rows, (first, after the last).
    """
    shared = spark.sparkContext.broadcast((heads.to_arrays(), heads.input_dims, codebooks.to_arrays(), tables, spans))

    def assign(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        head_arrays, input_dims, code_arrays, local_tables, local_spans = shared.value
        local_heads = AlignmentHeads.from_arrays(head_arrays, list(input_dims))
        local_codebooks = Codebooks.from_arrays(code_arrays)
        # One thread for each task, because Spark already runs a task on each core.
        torch.set_num_threads(1)
        with threadpool_limits(1):
            for batch in batches:
                for number in batch["id"].to_pylist():
                    for views in view_batches(local_tables, input_dims, *local_spans[number]):
                        present = np.stack([views.has[name] for name in input_dims], axis=1)
                        assigned = local_codebooks.assign(local_heads.align(views.arrays, present), present)
                        distance = pa.array(assigned.distance, mask=assigned.primary < 0)
                        columns = [assigned.primary, assigned.secondary, *views.has.values(), distance]
                        names = [part.split()[0] for part in SCHEMA.split(", ")]
                        yield pa.RecordBatch.from_arrays(
                            [views.item_index, views.item_id, *(pa.array(column) for column in columns)], names
                        )

    return assign


def _growth(lake: Lake, previous: dt.date | None, distortion: float | None) -> dict[str, Any]:
    """Mean squared distance to the primary code on the date before, and the share by which it has grown since.

    If all items lay on their codes, there was no distance that could grow. The share is None then, and not a huge number.
    """
    before = lake.manifest("clusters", previous)["stats"]["primary"]["distortion"] if previous else None
    return {
        "distortion_before": before,
        "distortion_growth": distortion / before - 1
        if before is not None and before > _NO_DISTORTION and distortion is not None
        else None,
    }


def _churn(spark: SparkSession, settings: PipelineSettings, pending: Pending, date: dt.date) -> dict[str, Any]:
    """Share of the labelled, unchanged items (picture and text are those of `date`) that have changed their label."""
    levels = ("primary", "secondary")

    def labels(frame: DataFrame, suffix: str) -> DataFrame:
        return frame.select("item_id", *(F.col(name).alias(name + suffix) for name in levels))

    today = labels(spark.read.parquet(readable(spark, pending.path)), "_now")
    both = labels(read_table(spark, settings, "clusters", date=date), "_before").join(today, "item_id")
    for table in CONTENT_TABLES:
        old, new = (read_table(spark, settings, table, ["item_id", "content_hash"], date=day) for day in (date, settings.date))
        same = old.alias("old").join(new.alias("new"), "item_id").where(F.expr("old.content_hash <=> new.content_hash"))
        both = both.join(same.select("item_id"), "item_id")
    labelled = (F.col("primary_before") >= 0) & (F.col("primary_now") >= 0)
    moved = [F.col(f"{name}_before") != F.col(f"{name}_now") for name in levels]
    counts = both.select(
        F.count(F.lit(1)).alias("unchanged_items"),
        F.count_if(labelled).alias("labelled"),
        F.count_if(labelled & moved[0]).alias("moved"),
        F.count_if(labelled & (moved[0] | moved[1])).alias("either"),
    ).collect()[0]
    return {
        "since": date.isoformat(),
        "unchanged_items": counts["unchanged_items"],
        "labelled_items": counts["labelled"],
        "moved_items": counts["moved"],
        "primary": counts["moved"] / max(counts["labelled"], 1),
        "primary_or_secondary": counts["either"] / max(counts["labelled"], 1),
    }
