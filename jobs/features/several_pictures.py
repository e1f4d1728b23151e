"""Makes one row of an item that has several pictures: its vector is the mean of theirs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

_OF_A_PICTURE = ("status", "content_hash", "file_stamp", "traits", "vector")


def mean_vector(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """The mean of the vectors' directions, with the mean of their lengths. So every picture counts alike.

    Args:
        vectors: float32 [D] of at least one picture. None is all zeros.

    Returns:
        float32 [D]. If the directions cancel each other, it is the first vector.
    """
    stacked = np.stack(vectors).astype(np.float64)
    lengths = np.linalg.norm(stacked, axis=1)
    mean = (stacked / lengths[:, None]).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return (mean * (lengths.mean() / length) if length > 1e-6 else stacked[0]).astype(np.float32)


def _means(rows: pd.Series) -> pd.Series:
    return pd.Series([mean_vector(row) if len(row) else None for row in rows])


def one_row_for_each_item(pictures: DataFrame) -> DataFrame:
    """Rows of pictures as rows of items.

    Args:
        pictures: item_index, item_id, place, num_pictures, encoder, and status, content_hash, file_stamp, traits, vector of
            each picture.

    Returns:
        The same columns without place and num_pictures, and `pictures`: null for an item with one picture, whose row stays as
        it is; else an array of what is known of each picture, those with the same content once. An item is ok if one of its
        pictures is. Its content_hash stands for all hashes in order, and its traits are those of all.
    """
    alone = pictures.where("num_pictures = 1").drop("place", "num_pictures")
    fields = ", ".join(f"{name}: {pictures.schema[name].dataType.simpleString()}" for name in _OF_A_PICTURE)
    alone = alone.withColumn("pictures", F.lit(None).cast(f"array<struct<{fields}>>"))
    in_order = F.array_sort(F.collect_list(F.struct("place", *_OF_A_PICTURE)))
    items = pictures.where("num_pictures > 1").groupBy("item_index", "item_id", "encoder").agg(in_order.alias("all"))
    hashes = F.transform("all", lambda picture: picture["content_hash"])
    first = F.filter(
        "all",
        lambda picture, place: (
            picture["content_hash"].isNull() | (F.array_position(hashes, picture["content_hash"]) == place + 1)
        ),
    )
    kept = F.transform(first, lambda picture: F.struct(*(picture[name].alias(name) for name in _OF_A_PICTURE)))
    items = items.withColumn("pictures", kept)
    mean = F.pandas_udf(_means, "array<float>")  # type: ignore[call-overload]
    seen = F.filter("pictures", lambda picture: picture["vector"].isNotNull())

    def some(status: str) -> Column:
        return F.exists("pictures", lambda picture: picture["status"] == status)

    several = items.select(
        "item_index",
        "item_id",
        "encoder",
        F.when(some("ok"), "ok").when(some("unreadable"), "unreadable").otherwise("missing").alias("status"),
        F.sha2(F.concat_ws(",", F.transform(seen, lambda picture: picture["content_hash"])), 256).alias("content_hash"),
        F.lit(None).cast("string").alias("file_stamp"),
        F.array_sort(F.array_distinct(F.flatten(F.transform("pictures", lambda p: F.coalesce(p["traits"], F.array()))))).alias(
            "traits"
        ),
        mean(F.transform(seen, lambda picture: picture["vector"])).alias("vector"),
        "pictures",
    )
    return alone.unionByName(several)
