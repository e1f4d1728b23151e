"""Visual view of every item: its picture, encoded on the Spark workers."""

import functools
from typing import Any

from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.features.encoders.model_folder import model_cache
from jobs.features.encoders.visual import visual_encoder
from jobs.features.feature_tables import View, publish_view
from jobs.lake.spark_tables import read_table
from jobs.source.images import load_images, mark_images, read_image
from jobs.source.tables import named_read_errors, read_source


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `visual_features`. An item without a readable picture gets no vector and keeps its other views.

    Raises:
        DataError: the source or the encoder cannot be read, or `items` is not published for the date.
    """
    features = settings.features
    encoder = functools.partial(visual_encoder, features.visual_encoder, model_cache(settings), features.precision)
    with spark_session(settings, "visual_features") as spark:
        spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(64 * 2**20))  # pictures differ in size
        source = read_source(spark, settings, check_log=False)
        items = read_table(spark, settings, "items", ["item_index", "item_id"])
        view = View(
            "visual_features",
            encoder,
            encoder().fingerprint,
            marks=items.join(mark_images(source), "item_id", "left").na.fill("missing", ["status"]),
            load=functools.partial(load_images, source),
            read=functools.partial(read_image, source.folder),
            failed="unreadable",
        )
        with named_read_errors(source.folder):
            return publish_view(spark, settings, view)
