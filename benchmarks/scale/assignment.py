"""Assignment in Spark, as the job does it, against the bare kernel in one process and against Spark MLlib's k-means."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.ml.clustering import KMeans, KMeansModel
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.measure import beside, seconds
from benchmarks.record import Row
from benchmarks.scale.process import run_job
from benchmarks.scale.world import make_settings, write_items, write_views
from esans_core.clusters.codebooks import mean_view
from jobs.base.spark import spark_session
from jobs.clusters.assign_clusters import assigned
from jobs.clusters.codebook_store import load_codebooks
from jobs.lake.tables import Lake
from jobs.lake.views import MODALITIES, feature_tables, read_views

SPARK, KERNEL, MLLIB = "assignment in Spark", "the bare kernel in one process", "Spark MLlib KMeansModel.transform"


@dataclass(frozen=True)
class Size:
    """Attributes: items; codes of both codebooks; items that MLlib's model is fitted on; repeats."""

    items: int = 1_000_000
    num_primary: int = 128
    num_secondary: int = 64
    fitted_on: int = 50_000
    repeats: int = 5


FULL = Size()
QUICK = Size(items=50_000, fitted_on=10_000, repeats=2)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Items per second. Ours aligns three views and uses both codebooks; MLlib uses one with as many codes."""
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
        views, tables = read_views(settings, np.arange(size.items)), feature_tables(settings)
        aligned = heads.align(views.arrays, views.present)
        means = _vectors(spark, mean_view(aligned, views.present), folder / "assignment-means.parquet")
        model: KMeansModel = KMeans(k=size.num_primary, maxIter=10, seed=0, initMode="random").fit(means.limit(size.fitted_on))
        taken = seconds(
            {
                SPARK: lambda: _run(assigned(spark, heads, codebooks, tables)),
                KERNEL: lambda: codebooks.assign(heads.align(views.arrays, views.present), views.present),
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


def _vectors(spark: SparkSession, vectors_ND: np.ndarray, path: Path) -> DataFrame:
    """Vectors as a table that MLlib reads."""
    plain = path.with_suffix(".arrays.parquet")
    offsets = np.arange(0, vectors_ND.size + 1, vectors_ND.shape[1], dtype=np.int32)
    pq.write_table(pa.table({"vector": pa.ListArray.from_arrays(offsets, vectors_ND.ravel())}), plain, row_group_size=65_536)
    frame = spark.read.parquet(str(plain)).select(array_to_vector(F.col("vector")).alias("features"))
    frame.repartition(8).write.mode("overwrite").parquet(str(path))
    return spark.read.parquet(str(path))


def _run(frame: DataFrame) -> None:
    frame.write.format("noop").mode("overwrite").save()
