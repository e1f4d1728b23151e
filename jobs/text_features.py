"""Textual view of every item: title and description, encoded on the Spark workers."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from upath import UPath

from jobs.encoders.text import HashedTextEncoder, encode_texts, load_text_encoder
from jobs.feature_tables import View, publish_view
from jobs.lake import Lake, folder_digest
from jobs.reuse import Recipe
from jobs.runtime import run_job
from jobs.settings import EMBEDDED, PipelineSettings
from jobs.spark import spark_session
from jobs.spark_tables import read_table

_TABLE = "text_encoder"


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `text_features`, and on the first date (or after a change of its configuration) `text_encoder`.

    Raises:
        DataError: the encoder cannot be read, or `items` is not published for the date.
    """
    batch_size, fitted = settings.features.encode_batch_size, settings.features.text_encoder == EMBEDDED
    with spark_session(settings, "text_features") as spark:
        items = (
            read_table(spark, settings, "items")
            .withColumn("payload", _content())
            .select(
                "item_index",
                "item_id",
                "payload",
                F.when(F.col("payload").isNull(), "missing").otherwise("ok").alias("status"),
                F.sha2("payload", 256).alias("content_hash"),
            )
        )
        extra_inputs: dict[str, str] = {}
        folder: UPath | Path | None
        if fitted:
            folder, extra_inputs = _fitted_encoder(items, settings)
        else:
            folder = Path(settings.features.text_encoder).expanduser()
        if folder is None:
            view = View("text_features", _nothing_to_encode, "none", failed="missing")
        else:
            encode = functools.partial(encode_texts, folder, fitted, batch_size)
            view = View("text_features", encode, load_text_encoder(folder, fitted, batch_size).fingerprint, failed="missing")
        return publish_view(spark, settings, view, items, extra_inputs=extra_inputs)


def _content() -> Column:
    title, text = (F.nullif(F.trim(F.col(name)), F.lit("")) for name in ("title", "text"))
    # Many catalogues repeat the title at the start of the text; it counts once.
    return F.when(text.startswith(title), text).otherwise(F.nullif(F.concat_ws("\n", title, text), F.lit("")))


def _nothing_to_encode(texts: Sequence[str]) -> list[np.ndarray | None]:
    return [None] * len(texts)


def _fitted_encoder(items: DataFrame, settings: PipelineSettings) -> tuple[UPath | None, dict[str, str]]:
    """Folder and lineage of the latest encoder fitted with the present configuration, or of one fitted on these items.

    No folder where no encoder is kept yet and no item has a text to fit one on.
    """
    lake, dim = Lake.of(settings), settings.features.text_dim
    for date in reversed([date for date in lake.dates(_TABLE) if date <= settings.date]):
        if HashedTextEncoder.fits(lake.path(_TABLE, date), dim):
            return lake.path(_TABLE, date), {f"{_TABLE}/date={date}": lake.manifest(_TABLE, date)["digest"]}
    texts = [row["payload"] for row in items.select("payload").dropna().distinct().orderBy("payload").collect()]
    if not texts:
        return None, {}
    with lake.write(_TABLE, settings, inputs=["items"]) as pending:
        HashedTextEncoder.fit(texts, dim).save(pending.path)
        pending.stats["texts"] = len(texts)
    return _fitted_encoder(items, settings)


def _model_folder(settings: PipelineSettings) -> dict[str, str]:
    name = settings.features.text_encoder
    return {} if name == EMBEDDED else {"model": folder_digest(Path(name).expanduser())}


if __name__ == "__main__":
    recipe = Recipe(
        sections=("features",),
        reads=("items",),
        before=("text_features", _TABLE),
        writes=("text_features", _TABLE),
        further=_model_folder,
    )
    run_job("text_features", run, recipe=recipe)
