"""The pictures of the catalogue, wherever the source keeps them. They are first marked, and read only if they are needed."""

from collections.abc import Callable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from upath import UPath

from jobs.source.picture_cache import PictureCache
from jobs.source.picture_files import EMPTY, MAX_IMAGE_BYTES, TOO_LARGE, find_picture, read_file
from jobs.source.tables import Source, first_rows

_FILE = "size bigint, stamp string, why string"
_INLINE = "struct<size: bigint, hash: string, image_table: string, image_row: struct<file: string, row: bigint>>"


def mark_images(source: Source, most: int, fetched: PictureCache | None = None) -> DataFrame:
    """What is cheap to know of each item's pictures.

    They are those of the images table; else `items.image`; else those in the files that `items.image_path` and
    `items.image_paths` name. Pictures in tables are hashed where they are read, so their bytes are never shuffled. A file gives
    only its stamp.

    Args:
        source: the input tables.
        most: the number of an item's pictures that count, the first ones.
        fetched: where pictures by URL were fetched to; None refuses them.

    Returns:
        One row for each picture, and one for an item without any: item_id string; place int, 0 for the item's first picture;
        num_pictures int, how many the item has, at least 1; status string: `ok`, `missing` (nothing given, or the file is not
        there), `unreadable` (zero bytes, or more than `MAX_IMAGE_BYTES`); content_hash string, SHA-256 of a picture in a table;
        file_stamp string, see `jobs.base.places.file_stamp`; traits array<string>, why a picture cannot be used, one of the
        reasons of `jobs.source.picture_files` (null if it can); and the place where `load_images` finds it: image_path string
        (null for a picture in a table), `image_table` and `image_row` (null for a file). Only decoding shows whether the
        bytes are a picture.
    """
    # Marked as nondeterministic, because Spark would else look at a file again for each use of the columns.
    folder = source.folder
    look = F.udf(lambda given: _file(folder, given, fetched), _FILE).asNondeterministic()
    given = _given(source, _inline, _INLINE).withColumn("given", F.slice("given", 1, most))
    pictures = given.select("item_id", F.greatest(F.size("given"), F.lit(1)).alias("num_pictures"), F.posexplode_outer("given"))
    pictures = pictures.select(
        "item_id", "num_pictures", F.coalesce("pos", F.lit(0)).alias("place"), "col.inline", "col.image_path"
    )
    found = pictures.withColumn("file", look(F.when(F.col("inline").isNull(), F.col("image_path"))))
    size = F.coalesce("inline.size", "file.size")
    why = F.when(size == 0, EMPTY).when(size > MAX_IMAGE_BYTES, TOO_LARGE).when(size.isNull(), F.col("file.why"))
    return found.select(
        "item_id",
        "place",
        "num_pictures",
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


def picture_paths(source: Source, most: int) -> DataFrame:
    """item_id, image_path of the pictures that are looked for in files or by URL, a row each; of an item, the first `most`."""
    # Pictures in tables are not hashed here: that there are any is enough.
    some = F.col("image").isNotNull() | _is_path(F.col("image_path")) | F.col("image_paths").isNotNull()
    own = first_rows(source.items).where(some) if source.images is None else None  # where there are none, Spark does nothing
    given = _given(source, lambda _: F.when(F.col("image").isNotNull(), F.lit(True)), "boolean", own)
    pictures = given.select("item_id", F.inline(F.slice("given", 1, most)))
    return pictures.where("image_path is not null").select("item_id", "image_path")


def load_images(source: Source, wanted: DataFrame) -> DataFrame:
    """The pictures of some rows of `mark_images`.

    Returns:
        item_index, place, known_hashes, image binary (null for a file), image_path.
    """
    columns = ("item_index", "place", "known_hashes", "image", "image_path")
    loaded = wanted.where("image_row is null").withColumn("image", F.lit(None).cast("binary")).select(*columns)
    for name, table in (("items", source.items), ("images", source.images)):
        if table is not None:
            here = wanted.where(F.col("image_table") == name).withColumnRenamed("image_row", "source_row")
            loaded = loaded.union(table.select("image", "source_row").join(here, "source_row").select(*columns))
    return loaded


def read_image(folder: UPath, fetched: PictureCache | None, row: Mapping[str, Any]) -> bytes | None:
    """The bytes of one row of `load_images`; None if its file has gone."""
    return row["image"] if row["image"] is not None else read_file(folder, row["image_path"], fetched)


def _file(folder: UPath, given: str | None, fetched: PictureCache | None) -> tuple[int | None, str | None, str]:
    found = find_picture(folder, given, fetched)
    return found.size, found.stamp, found.why


def _given(source: Source, inline: Callable[[str], Column], kind: str, own: DataFrame | None = None) -> DataFrame:
    """item_id, and `given`: its pictures in order, each with `inline`, null for a file, or with `image_path`.

    Args:
        source: the input tables.
        inline: what is said of a picture in a table, from the table's name.
        kind: its type.
        own: the rows of items that are looked at; if None, the first of each item.
    """
    own = first_rows(source.items) if own is None else own
    paths = F.array_distinct(F.filter(F.concat(F.array("image_path"), F.coalesce("image_paths", F.array())), _is_path))
    files = F.transform(paths, lambda path: F.struct(F.lit(None).cast(kind).alias("inline"), path.alias("image_path")))
    inside = F.array(F.struct(inline("items").alias("inline"), F.lit(None).cast("string").alias("image_path")))
    given = own.select("item_id", F.when(F.col("image").isNotNull(), inside).otherwise(files).alias("given"))
    if source.images is None:
        return given
    rows = source.images.where(F.col("image").isNotNull() | _is_path(F.col("image_path"))).where("item_id is not null")
    path = F.when(F.col("image").isNull(), F.col("image_path"))
    pictures = rows.select(
        "item_id", F.struct("source_row", inline("images").alias("inline"), path.alias("image_path")).alias("picture")
    )
    apart = pictures.groupBy("item_id").agg(F.array_sort(F.collect_list("picture")).alias("apart"))
    without_row = F.transform(
        "apart", lambda picture: F.struct(picture["inline"].alias("inline"), picture["image_path"].alias("image_path"))
    )
    return given.join(apart, "item_id", "left").select("item_id", F.coalesce(without_row, "given").alias("given"))


def _is_path(path: Column) -> Column:
    return F.coalesce(F.trim(path) != "", F.lit(False))


def _inline(table: str) -> Column:
    """Size, hash and place of a picture in a table, null if there is none."""
    inline = F.struct(
        F.octet_length("image").cast("bigint").alias("size"),
        F.sha2("image", 256).alias("hash"),
        F.lit(table).alias("image_table"),
        F.col("source_row").alias("image_row"),
    )
    return F.when(F.col("image").isNotNull(), inline)
