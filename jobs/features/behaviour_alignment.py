"""Turns the behavioural vectors of today into the axes of yesterday.

The axes of a factorisation are arbitrary: nearly the same events give nearly the same angles between items, but in other axes.
After a rotation onto yesterday's vectors, each axis means the same as before. So alignment heads can go on, and clusters stay.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from esans_core.clusters.procrustes import ProcrustesSums, Rotation
from jobs.base.settings import PipelineSettings
from jobs.features.encoders.model_folder import config_fingerprint
from jobs.lake.spark_tables import read_table
from jobs.lake.tables import Lake
from jobs.lake.views import dense_view

TABLE = "behaviour_features"
_PARTITIONS = 16  # fixed, and summed in order, because the rotation must not depend on the number of cores
_MIN_ITEMS_PER_DIM = 2  # with fewer common items, a rotation would fit their noise
_MIN_COSINE = 0.5  # with a lower mean cosine after turning, the two days have too little in common


@dataclass(frozen=True)
class Aligned:
    """Vectors in their final axes.

    Attributes:
        vectors: the given frame, turned if a rotation was found.
        encoder: fingerprint. It stays the same as long as each date can be turned onto the one before it.
        report: for the manifest: `encoder` and `root` (digest of the events whose fit set the axes), and either `onto` (the
            earlier date), `items`, `residual_before`, `residual_after` (root mean square distance of unit vectors; 0 is equal,
            2 opposite), or `skipped`, the reason why nothing was turned.
        inputs: lineage, the digest of the earlier table.
    """

    vectors: DataFrame
    encoder: str
    report: dict[str, Any]
    inputs: dict[str, str]


def align(spark: SparkSession, settings: PipelineSettings, vectors: DataFrame, kind: str, config: dict[str, Any]) -> Aligned:
    """Turn vectors onto those of the latest earlier date, by the items that have a vector on both dates.

    Args:
        spark: the session.
        settings: gives the date.
        vectors: item_index, item_id, vector array<float> (null where there is none).
        kind: kind of the encoder, with which its fingerprint begins.
        config: all that decides the vectors besides the events. Vectors made with another one are no target.
    """
    lake = Lake.of(settings)
    date = lake.previous_date(TABLE, settings.date)
    before = lake.manifest(TABLE, date)["stats"].get("axes", {}) if date is not None else {}
    rotation, items = None, 0
    if date is None:
        reason = "no earlier vectors"
    elif not before or before["encoder"] != config_fingerprint(kind, config | {"root": before["root"]}):
        reason = f"method or settings have changed since {date}"
    else:
        rotation, items, reason = _rotation(read_table(spark, settings, TABLE, date=date), vectors, before["dim"], str(date))
    if rotation is None or date is None:
        root = lake.manifest("interactions", settings.date)["digest"]
        encoder = config_fingerprint(kind, config | {"root": root})
        return Aligned(vectors, encoder, {"encoder": encoder, "root": root, "skipped": reason}, {})
    report = {
        "encoder": before["encoder"],
        "root": before["root"],
        "onto": str(date),
        "items": items,
        "residual_before": rotation.residual_before,
        "residual_after": rotation.residual_after,
    }
    turned = vectors.mapInArrow(_turn(rotation), vectors.schema)
    return Aligned(turned, before["encoder"], report, {f"{TABLE}/date={date}": lake.manifest(TABLE, date)["digest"]})


def _rotation(old: DataFrame, new: DataFrame, dim: int, date: str) -> tuple[Rotation | None, int, str]:
    """The rotation and the number of items it was fitted on; or None, 0 and the reason."""
    earlier = old.where("vector is not null").select("item_id", F.col("vector").alias("old"))
    pairs = new.where("vector is not null").select("item_id", "vector").join(earlier, "item_id")
    spread = pairs.repartition(_PARTITIONS, "item_id").sortWithinPartitions("item_id")
    sums = ProcrustesSums.empty(dim)
    for row in spread.mapInArrow(_add_up(dim), "count bigint, cross array<double>").collect():  # in the partitions' order
        sums.merge(ProcrustesSums(np.array(row["cross"]).reshape(dim, dim), row["count"]))
    if sums.count < _MIN_ITEMS_PER_DIM * dim:
        return None, 0, f"{sums.count} items have vectors today and on {date}, fewer than {_MIN_ITEMS_PER_DIM * dim}"
    rotation = sums.fit()
    if rotation.cosine_after < _MIN_COSINE:
        return None, 0, f"even after turning, vectors differ from those of {date}: mean cosine {rotation.cosine_after:.2f}"
    return rotation, sums.count, ""


def _add_up(dim: int) -> Any:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        sums = ProcrustesSums.empty(dim)
        for batch in batches:
            sums.add(dense_view(batch["vector"])[0], dense_view(batch["old"])[0])
        cross = pa.array([sums.cross.ravel()], pa.list_(pa.float64()))
        yield pa.RecordBatch.from_arrays([pa.array([sums.count], pa.int64()), cross], names=["count", "cross"])

    return run


def _turn(rotation: Rotation) -> Any:
    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            dense, present = dense_view(batch["vector"])
            turned = list(rotation.apply(dense)) if present.any() else []
            vectors = [row if here else None for row, here in zip(turned, present, strict=True)] if turned else batch["vector"]
            column = batch.schema.get_field_index("vector")
            yield batch.set_column(column, "vector", pa.array(vectors, pa.list_(pa.float32())))

    return run
