"""The pictures of the catalogue, wherever the source keeps them. They are first marked, and read only if they are needed."""

import hashlib
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.source.tables import Source, first_rows

# No product picture is this large. A worker must not read a disk image or a video that a path happens to name.
MAX_IMAGE_BYTES = 64 * 2**20
_STAMP = "size bigint, stamp string"

Found = TypeVar("Found")


def mark_images(source: Source) -> DataFrame:
    """What is cheap to know of each item's picture: of that in the images table, else `items.image`, else `items.image_path`.

    Pictures in tables are hashed where they are read, so their bytes are never shuffled. A file gives only its stamp.

    Returns:
        One row for each item id: item_id string; status string: `ok`, `missing` (nothing given, or the file is not there),
        `unreadable` (zero bytes, or more than `MAX_IMAGE_BYTES`; `traits` says which); content_hash string, SHA-256 of a
        picture in a table; file_stamp string, see `file_stamp`; and the place where `load_images` finds it: image_path string
        (null for a picture in a table), `image_table` and `image_row` (null for a file). Only decoding shows whether the
        bytes are a picture.
    """
    pictures = first_rows(_hashed(source.items, "items", "image_path")).drop("source_row")
    if source.images is not None:
        own = first_rows(_hashed(source.images, "images")).select("item_id", F.col("inline").alias("own"))
        pictures = pictures.join(own, "item_id", "left").withColumn("inline", F.coalesce("own", "inline"))
    # Marked as nondeterministic, because Spark would else look at a file again for each use of the columns.
    folder = source.folder
    look = F.udf(lambda given: file_stamp(folder, given), _STAMP).asNondeterministic()
    path = F.when(F.col("inline").isNull(), F.col("image_path"))
    found = pictures.select("item_id", "inline", path.alias("image_path")).withColumn("file", look("image_path"))
    size = F.coalesce("inline.size", "file.size")
    return found.select(
        "item_id",
        F.when(size.isNull(), "missing")
        .when((size == 0) | (size > MAX_IMAGE_BYTES), "unreadable")
        .otherwise("ok")
        .alias("status"),
        F.col("inline.hash").alias("content_hash"),
        F.col("file.stamp").alias("file_stamp"),
        F.when(size == 0, F.array(F.lit("empty"))).when(size > MAX_IMAGE_BYTES, F.array(F.lit("too_large"))).alias("traits"),
        "image_path",
        F.col("inline.image_table").alias("image_table"),
        F.col("inline.image_row").alias("image_row"),
    )


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


def read_file(folder: UPath, given: str | None) -> bytes | None:
    """Content of a picture file; None if there is no such ordinary file, empty if it is too large. Its place: see `_path`."""

    def read(path: UPath) -> bytes | None:
        about = path.fs.info(path.path)
        if about["type"] != "file":  # no folder, device or pipe is ever opened
            return None
        return path.read_bytes() if about["size"] <= MAX_IMAGE_BYTES else b""

    return _of_file(folder, given, read)


def file_stamp(folder: UPath, given: str | None) -> tuple[int, str] | None:
    """Size of a file in bytes, and a stamp that changes when its content does; None if there is no such ordinary file.

    Locally the stamp covers path, size, and the times of the last change of content and of status in nanoseconds. A tool
    may set the first time back (`cp -p`, `rsync -t`), but nobody can set the second. So only one change is missed: that of a
    file written again with the same length within the same tick of the clock (a few milliseconds) as a run looked at it.
    In a store, the stamp is what the client takes for the file's version. It is taken before the file is read, so a change in
    between is seen by the next run. With `features.read_unchanged_files` all files are read.
    """

    def look(path: UPath) -> tuple[int, str] | None:
        if isinstance(path, Path):
            found = path.stat()
            size, seen = found.st_size, f"{found.st_mtime_ns}\n{found.st_ctime_ns}" if stat.S_ISREG(found.st_mode) else None
        else:
            about = path.fs.info(path.path)
            size, seen = about["size"], str(path.fs.checksum(path.path)) if about["type"] == "file" else None
        stamp = hashlib.sha256(f"{path}\n{size}\n{seen}".encode(errors="surrogateescape")).hexdigest()[:32]
        return None if seen is None else (size, stamp)

    return _of_file(folder, given, look)


def _hashed(frame: DataFrame, table: str, *others: str) -> DataFrame:
    """item_id, source_row, the other columns, and `inline`: size, hash and place of the picture, null if there is none."""
    inline = F.struct(
        F.octet_length("image").cast("bigint").alias("size"),
        F.sha2("image", 256).alias("hash"),
        F.lit(table).alias("image_table"),
        F.col("source_row").alias("image_row"),
    )
    return frame.select("item_id", "source_row", *others, F.when(F.col("image").isNotNull(), inline).alias("inline"))


def _of_file(folder: UPath, given: str | None, look: Callable[[UPath], Found | None]) -> Found | None:
    """What `look` says of a picture's file; None if the file is not there or must not be read."""
    try:
        path = _path(folder, given)
        return None if path is None else look(path)
    except (FileNotFoundError, PermissionError, ValueError, DataError):  # null character in the name, broken URI
        return None
    except OSError:  # a local name that is too long; but if a store cannot be reached, its picture is not missing
        if isinstance(folder, Path):
            return None
        raise


def _path(folder: UPath, given: str | None) -> UPath | None:
    """The place of a picture: a path in the source, or a URI of the source's own kind (`file://` for a folder here)."""
    if not given:
        return None
    parts = urlsplit(given)
    # A path in a catalogue must not make the workers send requests to other servers, or read their own disks.
    if parts.scheme == "file" and isinstance(folder, Path) and parts.netloc in ("", "localhost"):
        return folder / unquote(parts.path)
    if "://" not in given:
        return folder / given
    return place(given) if parts.scheme == folder.protocol else None
