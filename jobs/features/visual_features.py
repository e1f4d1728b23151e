"""Visual view of every item: its picture, encoded on the Spark workers."""

import functools
from typing import Any

from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.features.encoders.model_folder import model_cache
from jobs.features.encoders.visual import visual_encoder
from jobs.features.feature_tables import View, publish_view
from jobs.lake.spark_tables import read_table
from jobs.source.images import load_images, mark_images, picture_paths, read_image
from jobs.source.picture_cache import PictureCache
from jobs.source.picture_fetching import fetch_pictures
from jobs.source.picture_hosts import is_url
from jobs.source.tables import Source, named_read_errors, read_source


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Fetch pictures by URL if that is allowed, and publish `visual_features`.

    An item without a readable picture gets no vector and keeps its other views.

    Raises:
        DataError: the source or the encoder cannot be read, or `items` is not published for the date.
    """
    features = settings.features
    encoder = functools.partial(visual_encoder, features.visual_encoder, model_cache(settings), features.precision)
    with spark_session(settings, "visual_features") as spark:
        spark.conf.set("spark.sql.execution.arrow.maxBytesPerBatch", str(64 * 2**20))  # pictures differ in size
        source = read_source(spark, settings, check_log=False)
        items = read_table(spark, settings, "items", ["item_index", "item_id"])
        fetched = PictureCache.of(settings)
        marks = items.join(mark_images(source, settings.pictures.per_item, fetched), "item_id", "left")
        view = View(
            "visual_features",
            encoder,
            encoder().fingerprint,
            marks=marks.na.fill({"status": "missing", "place": 0, "num_pictures": 1}),
            load=functools.partial(load_images, source),
            read=functools.partial(read_image, source.folder, fetched),
            failed="unreadable",
        )
        with named_read_errors(source.folder):
            counts = _fetch(source, fetched, settings) if fetched is not None else {}
            return publish_view(spark, settings, view, extra_stats={"fetched": counts} if counts else {})


def _fetch(source: Source, cache: PictureCache, settings: PipelineSettings) -> dict[str, int]:
    """Bring the pictures that the catalogue names by URL into the cache, and forget those that it has long not named."""
    paths = picture_paths(source, settings.pictures.per_item).select(F.trim("image_path").alias("url")).distinct()
    urls = (row["url"] for row in paths.toLocalIterator() if is_url(row["url"]))
    counts = fetch_pictures(urls, settings)
    cache.sweep(settings.features.keep_retired_days)
    return counts
