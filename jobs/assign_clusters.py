"""Assign every item of the date to its primary and secondary cluster, in Spark against broadcast codebooks.

Reads the three feature tables and `codebooks`; writes `clusters`, with the label churn since the date before.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esans_core.alignment import AlignmentHeads
from esans_core.cluster_quality import cluster_quality, label_churn
from esans_core.codebooks import Codebooks
from jobs.codebook_store import load_codebooks
from jobs.errors import DataError
from jobs.lake import Lake, Pending
from jobs.places import open_dataset
from jobs.reuse import Recipe
from jobs.runtime import run_job
from jobs.settings import PipelineSettings
from jobs.spark import spark_session
from jobs.spark_tables import reachable, read_table, write_table
from jobs.views import FEATURE_TABLES, MODALITIES, dense_views, not_finite

log = logging.getLogger(__name__)

SCHEMA = (
    "item_index long, item_id string, primary int, secondary int, "
    "has_visual boolean, has_text boolean, has_behaviour boolean, distance float"
)
_CONTENT_TABLES = FEATURE_TABLES[:2]  # what makes an item the same item as yesterday: its picture and its text


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Assign and publish the clusters of the date.

    Raises:
        DataError: the feature tables do not hold the same items, or a vector holds NaN or infinity.
    """
    lake = Lake.of(settings)
    num_items = lake.manifest(FEATURE_TABLES[0], settings.date)["rows"]
    heads, codebooks, _ = load_codebooks(lake.path("codebooks", settings.date))
    previous = lake.previous_date("clusters", settings.date)
    before = {f"clusters@{previous}": lake.manifest("clusters", previous)["digest"]} if previous else {}
    with (
        spark_session(settings, "assign_clusters") as spark,
        lake.write("clusters", settings, inputs=[*FEATURE_TABLES, "codebooks"], extra_inputs=before) as pending,
    ):
        views = functools.reduce(
            lambda left, right: left.join(right, ["item_index", "item_id"], "outer"),
            [
                read_table(spark, settings, table).select("item_index", "item_id", F.col("vector").alias(name))
                for name, table in zip(MODALITIES, FEATURE_TABLES, strict=True)
            ],
        )
        assign = assigner(spark, heads, codebooks)
        write_table(views.mapInArrow(assign, SCHEMA), pending, by=["item_index"], keys=num_items)
        pending.stats = _summary(settings, pending, codebooks)
        pending.stats["churn"] = _churn(spark, settings, pending) if previous else None
    log.info("churn since %s: %s", previous, pending.stats["churn"])
    return pending.stats


def assigner(
    spark: SparkSession, heads: AlignmentHeads, codebooks: Codebooks
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`: batches with a column of vectors for each modality to batches of `SCHEMA`.

    The distance of an item with a vector that is not finite is NaN (null means: no view), for the driver to find.
    """
    shared = spark.sparkContext.broadcast((heads.to_arrays(), heads.input_dims, codebooks.to_arrays()))

    def assign(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        head_arrays, input_dims, code_arrays = shared.value
        local_heads = AlignmentHeads.from_arrays(head_arrays, list(input_dims))
        local_codebooks = Codebooks.from_arrays(code_arrays)
        for batch in batches:
            views, present = dense_views({name: batch[name] for name in input_dims}, input_dims)
            bad = np.zeros(len(present), bool)
            for values in views.values():
                bad |= ~np.isfinite(values).all(axis=1)
            assigned = local_codebooks.assign(local_heads.align(views, present & ~bad[:, None]), present & ~bad[:, None])
            here = [batch[name].is_valid() for name in MODALITIES]
            distance = pa.array(assigned.distance, mask=(assigned.primary < 0) & ~bad)
            columns = [batch["item_index"], batch["item_id"], assigned.primary, assigned.secondary, *here, distance]
            names = [part.split()[0] for part in SCHEMA.split(", ")]
            yield pa.RecordBatch.from_arrays([pa.array(c) if isinstance(c, np.ndarray) else c for c in columns], names)

    return assign


def _summary(settings: PipelineSettings, pending: Pending, codebooks: Codebooks) -> dict[str, Any]:
    """Check what was written against what was read, and describe it."""
    lake = Lake.of(settings)
    columns = ["item_index", "primary", "secondary", "has_visual", "has_text", "has_behaviour", "distance"]
    rows = open_dataset(pending.path).to_table(columns=columns)
    expected = {table: lake.manifest(table, settings.date)["rows"] for table in FEATURE_TABLES}
    if set(expected.values()) != {rows.num_rows}:
        raise DataError(
            f"the feature tables hold {expected} rows, which join to {rows.num_rows} items; they should be the same items.",
            file=" and ".join(FEATURE_TABLES),
            column="item_index",
            remedy="run the three feature jobs of this date again.",
        )
    distance = rows["distance"].to_numpy()
    bad = rows["item_index"].filter(pc.is_nan(rows["distance"]).fill_null(False))
    if len(bad):
        raise _bad_items(settings, bad.to_numpy())
    primary, secondary = rows["primary"].to_numpy(), rows["secondary"].to_numpy()
    num_primary, num_secondary = len(codebooks.primary_PD), codebooks.secondary_CSE.shape[1]
    clustered = primary >= 0
    pairs, sizes = np.unique(primary[clustered].astype(np.int64) * num_secondary + secondary[clustered], return_counts=True)
    alone = np.bincount(pairs // num_secondary, minlength=num_primary) == 1
    return {
        "items": rows.num_rows,
        "without_view": int((~clustered).sum()),
        "items_per_view": {name: int(np.sum(rows[f"has_{name}"].to_numpy())) for name in MODALITIES},
        "primary": asdict(cluster_quality(primary, num_primary, distance.astype(np.float64) ** 2)),
        "secondary": asdict(cluster_quality(secondary, num_secondary)),
        "pairs_in_use": len(pairs),
        "largest_pair": int(sizes.max(initial=0)),
        "items_without_hard_negatives": int(np.bincount(primary[clustered], minlength=num_primary)[alone].sum()),
    }


def _bad_items(settings: PipelineSettings, item_index: np.ndarray) -> DataError:
    """Name the table at fault; the vectors of the few bad items are read again."""
    for table in FEATURE_TABLES:
        dataset = open_dataset(Lake.of(settings).path(table, settings.date))
        rows = dataset.to_table(["item_id", "vector"], filter=pads.field("item_index").isin(pa.array(item_index)))
        bad = [
            item
            for item, vector in zip(rows["item_id"].to_pylist(), rows["vector"].to_pylist(), strict=True)
            if vector is not None and not np.isfinite(np.array(vector, np.float32)).all()
        ]
        if bad:
            return not_finite(table, bad)
    raise AssertionError("an item was marked as bad, and its vectors are finite")


def _churn(spark: SparkSession, settings: PipelineSettings, pending: Pending) -> dict[str, Any]:
    """Share of unchanged items, those with yesterday's picture and text, that changed their label."""
    date = Lake.of(settings).previous_date("clusters", settings.date)
    assert date is not None

    def labels(frame: DataFrame, suffix: str) -> DataFrame:
        return frame.select("item_id", *(F.col(name).alias(name + suffix) for name in ("primary", "secondary")))

    today = labels(spark.read.parquet(reachable(spark, pending.path)), "_now")
    both = labels(read_table(spark, settings, "clusters", date=date), "_before").join(today, "item_id")
    for table in _CONTENT_TABLES:
        old, new = (read_table(spark, settings, table, ["item_id", "content_hash"], date=day) for day in (date, settings.date))
        same = old.alias("old").join(new.alias("new"), "item_id").where(F.expr("old.content_hash <=> new.content_hash"))
        both = both.join(same.select("item_id"), "item_id")
    rows = both.toArrow()
    before, now = (
        np.stack([rows[f"{level}_{day}"].to_numpy() for level in ("primary", "secondary")], axis=1) for day in ("before", "now")
    )
    return {
        "since": date.isoformat(),
        "unchanged_items": rows.num_rows,
        "primary": label_churn(before[:, 0], now[:, 0]),
        "primary_or_secondary": label_churn(before, now),
    }


if __name__ == "__main__":
    recipe = Recipe(reads=(*FEATURE_TABLES, "codebooks"), before=("clusters", *_CONTENT_TABLES), writes=("clusters",))
    run_job("assign_clusters", run, recipe=recipe)
