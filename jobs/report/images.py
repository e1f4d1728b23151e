"""Pictures of a few items from wherever the source keeps them, without Spark."""

import logging
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from jobs.base.errors import DataError
from jobs.base.places import open_dataset, place
from jobs.base.settings import PipelineSettings
from jobs.source.picture_cache import PictureCache
from jobs.source.picture_content import decode_picture
from jobs.source.picture_files import read_file
from jobs.source.tables import landed

log = logging.getLogger(__name__)
_LARGEST = 256  # pixels; tiles are smaller


def load_images(settings: PipelineSettings, paths: Mapping[str, str | None]) -> dict[str, Image.Image]:
    """Pictures by item id, RGB, at most 256 pixels a side; items whose picture is missing or unreadable are left out.

    Of an item with several pictures, it is the first that can be read.

    Args:
        settings: gives the source.
        paths: image_path (or None) of each item id wanted.
    """
    try:
        landing = landed(settings)
    except (DataError, OSError) as error:  # a source that has gone since the run leaves the report without pictures
        log.warning("no pictures: %s", error)
        return {}
    folder, fetched = place(landing.folder), PictureCache.of(settings)
    found: dict[str, Image.Image] = {}
    # As at ingest: the images table goes before items.image, and that before items.image_path.
    for table in ("images", "items"):
        for part in landing.tables[table].parts if table in landing.tables else []:
            for item, given in _pictures_of(part.uri, [item for item in paths if item not in found], table):
                _decode(item, read_file(folder, given, fetched) if isinstance(given, str) else given, found)
    for item, path in paths.items():
        if path:
            _decode(item, read_file(folder, path, fetched), found)
    return found


def _pictures_of(uri: str, wanted: list[str], table: str) -> Iterator[tuple[str, bytes | str]]:
    """The pictures that a table has of some items, with the items' ids, in order: the bytes, or else the path."""
    try:
        rows = open_dataset(place(uri))
    except OSError as error:
        log.warning("no pictures of %s: %s", uri, error)
        return
    columns = ("image", "image_path") if table == "images" else ("image",)
    there = [name for name in columns if name in rows.schema.names]
    if not wanted or not there:
        return
    chosen = rows.to_table(columns=["item_id", *there], filter=pc.field("item_id").cast(pa.string()).isin(wanted))
    for row in chosen.to_pylist():
        given = next((row[name] for name in there if row[name]), None)
        if given is not None:
            yield str(row["item_id"]), given


def _decode(item: str, content: bytes | None, found: dict[str, Image.Image]) -> None:
    """Add a picture, unless there is one already, or it cannot be read."""
    if item in found or not content:
        return
    image = decode_picture(content, _LARGEST).image
    if image is not None:
        found[item] = image
