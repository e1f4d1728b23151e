"""Assignment in Spark, as its job does it, against the bare kernel in one process and against Spark MLlib's k-means."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyspark.ml.clustering import KMeans, KMeansModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import beside, seconds
from benchmarks.record import Row
from benchmarks.scale.process import run_job
from benchmarks.scale.world import ArrowFunction, make_settings, write_items, write_views
from esans_core.alignment import AlignmentHeads
from esans_core.codebooks import mean_view
from jobs.assign_clusters import SCHEMA, assigner
from jobs.codebook_store import load_codebooks
from jobs.lake import Lake
from jobs.settings import PipelineSettings
from jobs.spark import spark_session
from jobs.spark_tables import read_table
from jobs.views import FEATURE_TABLES, MODALITIES, dense_views

SPARK, KERNEL, MLLIB = "assignment in Spark", "the bare kernel in one process", "Spark MLlib KMeansModel.transform"


@dataclass(frozen=True)
class Size:
    """Attributes: items; codes of both codebooks; items MLlib's model is fitted on; repeats."""

    items: int = 1_000_000
    num_primary: int = 128
    num_secondary: int = 64
    fitted_on: int = 50_000
    repeats: int = 5


FULL = Size()
QUICK = Size(items=50_000, fitted_on=10_000, repeats=2)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Items a second. Ours aligns three views and asks both codebooks; MLlib one of as many codes."""
    settings = make_settings(
        folder / f"assignment-{size.items}",
        clusters={"num_primary": size.num_primary, "num_secondary": size.num_secondary},
        run={"reuse": False},
    )
    with spark_session(settings, "benchmark") as spark:
        write_items(spark, settings, size.items)
        write_views(spark, settings, size.items, MODALITIES)
    run_job("fit_codebooks", settings.run_dir / "settings.json", log=folder / "logs" / "assignment.log")
    heads, codebooks, _ = load_codebooks(Lake.of(settings).path("codebooks", settings.date))
    with spark_session(settings, "benchmark") as spark:
        joined = _kept(_joined(spark, settings), folder / "assignment-views.parquet")
        means = joined.mapInArrow(_mean_views(heads), "mean array<float>")
        means = _kept(means.select(array_to_vector(F.col("mean")).alias("features")), folder / "assignment-means.parquet")
        sample = means.limit(size.fitted_on)
        model: KMeansModel = KMeans(k=size.num_primary, maxIter=10, seed=0, initMode="random").fit(sample)
        batch = joined.select(*MODALITIES).toArrow().combine_chunks().to_batches()[0]
        views, present = dense_views({name: batch[name] for name in MODALITIES}, heads.input_dims)
        taken = seconds(
            {
                SPARK: lambda: _run(joined.mapInArrow(assigner(spark, heads, codebooks), SCHEMA)),
                KERNEL: lambda: codebooks.assign(heads.align(views, present), present),
                MLLIB: lambda: _run(model.transform(means)),
            },
            size.repeats,
        )
    case = f"spark assignment: {size.items:,} items, {size.num_primary} codes, {codebooks.primary_PD.shape[1]} dimensions"
    found = {
        name: Row(case, name, "throughput", "items/s", size.items / median, size.repeats) for name, median in taken.items()
    }
    yield found[KERNEL]
    yield found[MLLIB]
    yield beside(found[SPARK], found[KERNEL], "ratio >= 0.6")
    yield beside(found[SPARK], found[MLLIB], "ratio >= 1")


def _joined(spark: SparkSession, settings: PipelineSettings) -> DataFrame:
    frames = [
        read_table(spark, settings, table).select("item_index", "item_id", F.col("vector").alias(name))
        for name, table in zip(MODALITIES, FEATURE_TABLES, strict=True)
    ]
    return functools.reduce(lambda left, right: left.join(right, ["item_index", "item_id"]), frames)


def _kept(frame: DataFrame, path: Path) -> DataFrame:
    frame.write.mode("overwrite").parquet(str(path))
    return frame.sparkSession.read.parquet(str(path))


def _mean_views(heads: AlignmentHeads) -> ArrowFunction:
    arrays, dims = heads.to_arrays(), heads.input_dims

    def means(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        local = AlignmentHeads.from_arrays(arrays, list(dims))
        for batch in batches:
            views, present = dense_views({name: batch[name] for name in dims}, dims)
            mean_ND = mean_view(local.align(views, present), present)
            offsets = pa.array(range(0, mean_ND.size + 1, mean_ND.shape[1]), pa.int32())
            yield pa.RecordBatch.from_arrays([pa.ListArray.from_arrays(offsets, mean_ND.ravel())], ["mean"])

    return means


def _run(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()
