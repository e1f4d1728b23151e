"""Textual view of every item: title and description, encoded on the Spark workers."""

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from upath import UPath

from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.base.spark import spark_session
from jobs.features.encoders.model_folder import model_cache
from jobs.features.encoders.text import HashedTextEncoder, fitted_encoder, model_text_encoder
from jobs.features.feature_tables import Encoder, View, publish_view
from jobs.lake.spark_tables import read_table
from jobs.lake.tables import Lake

ENCODER_TABLE = "text_encoder"


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `text_features`, and on the first date (or after a change of its configuration) `text_encoder`.

    Raises:
        DataError: the encoder cannot be read, or `items` is not published for the date.
    """
    with spark_session(settings, "text_features") as spark:
        items = read_table(spark, settings, "items").withColumn("text", _content())
        encoder, extra_inputs = _encoder(items, settings)
        absent = F.lit(None).cast("string")
        marks = items.select(
            "item_index",
            "item_id",
            F.when(F.col("text").isNull(), "missing").otherwise("ok").alias("status"),
            F.sha2("text", 256).alias("content_hash"),
            absent.alias("file_stamp"),
            F.lit(None).cast("array<string>").alias("traits"),
        )
        view = View(
            "text_features",
            encoder,
            encoder().fingerprint,
            marks,
            load=lambda wanted: items.select("item_index", "text").join(
                wanted.select("item_index", "place", "known_hashes"), "item_index"
            ),
            read=itemgetter("text"),
            failed="missing",
        )
        return publish_view(spark, settings, view, extra_inputs=extra_inputs)


def _content() -> Column:
    title, text = (F.nullif(F.trim(F.col(name)), F.lit("")) for name in ("title", "text"))
    # Many catalogues repeat the title at the start of the text. It is used once.
    return F.when(text.startswith(title), text).otherwise(F.nullif(F.concat_ws("\n", title, text), F.lit("")))


def _encoder(items: DataFrame, settings: PipelineSettings) -> tuple[Callable[[], Encoder], dict[str, str]]:
    """The encoder that the settings name, with its lineage if it is kept as a table."""
    features = settings.features
    if features.text_encoder != EMBEDDED:
        return partial(model_text_encoder, features.text_encoder, model_cache(settings), features.precision), {}
    folder, lineage = _fitted_encoder(items, settings)
    return (_NothingToEncode if folder is None else partial(fitted_encoder, folder)), lineage


class _NothingToEncode:
    """Stands in for an encoder if there was never a text to fit one on."""

    fingerprint = "none"

    def prepare(self, payload: Any) -> tuple[None, Sequence[str]]:
        return None, ()

    def encode(self, prepared: Sequence[Any]) -> np.ndarray:
        return np.zeros((len(prepared), 0), np.float32)


def _fitted_encoder(items: DataFrame, settings: PipelineSettings) -> tuple[UPath | None, dict[str, str]]:
    """Folder and lineage of the latest encoder that was fitted with this configuration; else of one fitted on these items.

    The folder is None if no such encoder is kept and no item has a text to fit one on.
    """
    lake, dim = Lake.of(settings), settings.features.text_dim
    for date in reversed([date for date in lake.dates(ENCODER_TABLE) if date <= settings.date]):
        if HashedTextEncoder.fits(lake.path(ENCODER_TABLE, date), dim):
            digest = lake.manifest(ENCODER_TABLE, date)["digest"]
            return lake.path(ENCODER_TABLE, date), {f"{ENCODER_TABLE}/date={date}": digest}
    texts = [row["text"] for row in items.select("text").dropna().distinct().orderBy("text").collect()]
    if not texts:
        return None, {}
    with lake.write(ENCODER_TABLE, settings, inputs=["items"]) as pending:
        HashedTextEncoder.fit(texts, dim).save(pending.path)
        pending.stats["texts"] = len(texts)
    return _fitted_encoder(items, settings)
