"""The pictures of the catalogue, wherever the source keeps them. They are first marked, and read only if they are needed."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from upath import UPath

from jobs.source.picture_files import EMPTY, MAX_IMAGE_BYTES, TOO_LARGE, find_picture, read_file
from jobs.source.tables import Source, first_rows

_FILE = "size bigint, stamp string, why string"


def mark_images(source: Source) -> DataFrame:
    """What is cheap to know of each item's picture: of that in the images table, else `items.image`, else `items.image_path`.

    Pictures in tables are hashed where they are read, so their bytes are never shuffled. A file gives only its stamp.

    Returns:
        One row for each item id: item_id string; status string: `ok`, `missing` (nothing given, or the file is not there),
        `unreadable` (zero bytes, or more than `MAX_IMAGE_BYTES`); content_hash string, SHA-256 of a picture in a table;
        file_stamp string, see `jobs.base.places.file_stamp`; traits array<string>, why a picture cannot be used, one of the
        reasons of `jobs.source.picture_files` (null if it can); and the place where `load_images` finds it: image_path string
        (null for a picture in a table), `image_table` and `image_row` (null for a file). Only decoding shows whether the
        bytes are a picture.
    """
    pictures = first_rows(_hashed(source.items, "items", "image_path")).drop("source_row")
    if source.images is not None:
        own = first_rows(_hashed(source.images, "images")).select("item_id", F.col("inline").alias("own"))
        pictures = pictures.join(own, "item_id", "left").withColumn("inline", F.coalesce("own", "inline"))
    # Marked as nondeterministic, because Spark would else look at a file again for each use of the columns.
    folder = source.folder
    look = F.udf(lambda given: _file(folder, given), _FILE).asNondeterministic()
    path = F.when(F.col("inline").isNull(), F.col("image_path"))
    found = pictures.select("item_id", "inline", path.alias("image_path")).withColumn("file", look("image_path"))
    size = F.coalesce("inline.size", "file.size")
    why = F.when(size == 0, EMPTY).when(size > MAX_IMAGE_BYTES, TOO_LARGE).when(size.isNull(), F.col("file.why"))
    return found.select(
        "item_id",
        F.when(size.isNull(), "missing")
        .when((size == 0) | (size > MAX_IMAGE_BYTES), "unreadable")
        .otherwise("ok")
        .alias("status"),
        F.col("inline.hash").alias("content_hash"),
        F.col("file.stamp").alias("file_stamp"),
        F.when(why.isNotNull(), F.array(why)).alias("traits"),
        "image_path",
        F.col("inline.image_table").alias("image_table"),
        F.col("inline.image_row").alias("image_row"),
    )


def picture_paths(source: Source) -> DataFrame:
    """item_id, image_path of the items whose picture is looked for in a file: those that have none in a table."""
    paths = source.items.where("image is null and trim(image_path) != ''").select("item_id", "image_path")
    if source.images is None:
        return paths
    return paths.join(source.images.where("image is not null").select("item_id").distinct(), "item_id", "left_anti")


def load_images(source: Source, wanted: DataFrame) -> DataFrame:
    """The pictures of some rows of `mark_images`: item_index, known_hash, image binary (null for a file), image_path."""
    columns = ("item_index", "known_hash", "image", "image_path")
    loaded = wanted.where("image_row is null").withColumn("image", F.lit(None).cast("binary")).select(*columns)
    for name, table in (("items", source.items), ("images", source.images)):
        if table is not None:
            here = wanted.where(F.col("image_table") == name).withColumnRenamed("image_row", "source_row")
            loaded = loaded.union(table.select("image", "source_row").join(here, "source_row").select(*columns))
    return loaded


def read_image(folder: UPath, row: Mapping[str, Any]) -> bytes | None:
    """The bytes of one row of `load_images`; None if its file has gone."""
    return row["image"] if row["image"] is not None else read_file(folder, row["image_path"])


def _file(folder: UPath, given: str | None) -> tuple[int | None, str | None, str]:
    found = find_picture(folder, given)
    return found.size, found.stamp, found.why


def _hashed(frame: DataFrame, table: str, *others: str) -> DataFrame:
    """item_id, source_row, the other columns, and `inline`: size, hash and place of the picture, null if there is none."""
    inline = F.struct(
        F.octet_length("image").cast("bigint").alias("size"),
        F.sha2("image", 256).alias("hash"),
        F.lit(table).alias("image_table"),
        F.col("source_row").alias("image_row"),
    )
    return frame.select("item_id", "source_row", *others, F.when(F.col("image").isNotNull(), inline).alias("inline"))
