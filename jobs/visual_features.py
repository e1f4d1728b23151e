"""Visual view of every item: its picture, encoded on the Spark workers."""

import functools
from typing import Any

from pyspark.sql import functions as F

from jobs.encoders.visual import encode_images, visual_encoder
from jobs.feature_tables import View, publish_view
from jobs.runtime import run_job
from jobs.settings import PipelineSettings
from jobs.source import named_read_errors, read_source
from jobs.source_images import read_images
from jobs.spark import spark_session
from jobs.spark_tables import read_table


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `visual_features`; an item without a readable picture gets no vector and keeps its other views.

    Raises:
        DataError: the source or the encoder cannot be read, or `items` is not published for the date.
    """
    name, batch_size = settings.features.visual_encoder, settings.features.encode_batch_size
    encode = functools.partial(encode_images, name, batch_size)
    view = View("visual_features", encode, visual_encoder(name, batch_size).fingerprint, failed="unreadable")
    with spark_session(settings, "visual_features") as spark:
        spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(64 * 2**20))  # pictures differ in size
        source = read_source(spark, settings, check_log=False)
        items = (
            read_table(spark, settings, "items", ["item_index", "item_id"])
            .join(read_images(source), "item_id", "left")
            .select(
                "item_index",
                "item_id",
                F.col("image").alias("payload"),
                F.coalesce("status", F.lit("missing")).alias("status"),
                F.sha2("image", 256).alias("content_hash"),
            )
        )
        with named_read_errors(source.folder):
            return publish_view(spark, settings, view, items)


if __name__ == "__main__":
    run_job("visual_features", run)
