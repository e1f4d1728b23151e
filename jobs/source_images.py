"""The pictures of the catalogue, wherever the source keeps them."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from upath import UPath

from jobs.errors import DataError
from jobs.places import place
from jobs.source import Source, first_rows

# No product picture is this large; a path to a disk image or a video must not be pulled into a worker.
MAX_IMAGE_BYTES = 64 * 2**20


def read_images(source: Source) -> DataFrame:
    """Encoded picture of each catalogue item: the images table goes before `items.image`, that before `items.image_path`.

    Returns:
        One row for each item id: item_id string, image binary (null when there is none), status string: `ok`, `missing`
        (nothing given, or the file is not there), `unreadable` (zero bytes, or more than `MAX_IMAGE_BYTES`). Whether
        the bytes are a picture shows only when they are decoded.
    """
    pictures = first_rows(source.items.select("item_id", "image", "image_path", "source_row")).drop("source_row")
    if source.images is not None:
        own = first_rows(source.images).select("item_id", F.col("image").alias("own_image"))
        pictures = pictures.join(own, "item_id", "left").withColumn("image", F.coalesce("own_image", "image"))
    # Nondeterministic, so that Spark never opens a file once for each use of the column.
    folder = source.folder
    read = F.udf(lambda given: read_file(folder, given), "binary").asNondeterministic()
    path = F.when(F.col("image").isNull(), F.col("image_path"))
    size = F.octet_length("image")
    return (
        pictures.select("item_id", F.coalesce("image", read(path)).alias("image"))
        .withColumn(
            "status",
            F.when(F.col("image").isNull(), "missing")
            .when((size == 0) | (size > MAX_IMAGE_BYTES), "unreadable")
            .otherwise("ok"),
        )
        .withColumn("image", F.when(F.col("status") == "ok", F.col("image")))
    )


def read_file(folder: UPath, given: str | None) -> bytes | None:
    """Content of a picture by its path in the source, or by a URI of the source's own kind (`file://` for a folder here).

    Returns:
        None if there is no such ordinary file, empty if it is too large.
    """
    if not given:
        return None
    try:
        parts = urlsplit(given)
        # A catalogue names pictures; it must not make the workers call on other servers, or read their disks.
        if parts.scheme == "file" and isinstance(folder, Path) and parts.netloc in ("", "localhost"):
            path = folder / unquote(parts.path)
        elif "://" not in given:
            path = folder / given
        elif parts.scheme == folder.protocol:
            path = place(given)
        else:
            return None
        about = path.fs.info(path.path)
        if about["type"] != "file":  # no folder, device or pipe is ever opened
            return None
        return path.read_bytes() if about["size"] <= MAX_IMAGE_BYTES else b""
    except (FileNotFoundError, PermissionError, ValueError, DataError):  # null character in the name, broken URI
        return None
    except OSError:  # here a name that is too long; but a picture in a store that cannot be reached is not missing
        if isinstance(folder, Path):
            return None
        raise
