"""Pictures of a few items from wherever the source keeps them, without Spark."""

import io
import logging
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import open_dataset
from jobs.base.settings import PipelineSettings
from jobs.source.picture_files import read_file
from jobs.source.tables import source_folder

log = logging.getLogger(__name__)
_LARGEST = 256  # pixels; tiles are smaller


def load_images(settings: PipelineSettings, paths: Mapping[str, str | None]) -> dict[str, Image.Image]:
    """Pictures by item id, RGB, at most 256 pixels a side; items whose picture is missing or unreadable are left out.

    Args:
        settings: gives the source.
        paths: image_path (or None) of each item id wanted.
    """
    try:
        folder = source_folder(settings)
    except (DataError, OSError) as error:  # a source that has gone since the run leaves the report without pictures
        log.warning("no pictures: %s", error)
        return {}
    found: dict[str, Image.Image] = {}
    # As at ingest: the images table goes before items.image, and that before items.image_path.
    for table in ("images", "items"):
        wanted = [item for item in paths if item not in found]
        for item, content in _bytes_of(folder / f"{table}.parquet", wanted).items():
            _decode(item, content, found)
    for item, path in paths.items():
        if item not in found and path:
            _decode(item, read_file(folder, path), found)
    return found


def _bytes_of(path: UPath, wanted: list[str]) -> dict[str, bytes]:
    if not wanted or not path.exists():
        return {}
    table = open_dataset(path)
    if "image" not in table.schema.names:
        return {}
    chosen = pc.field("item_id").cast(pa.string()).isin(wanted)
    rows = table.to_table(columns=["item_id", "image"], filter=chosen)
    ids = rows["item_id"].cast(pa.string()).to_pylist()
    return {item: content for item, content in zip(ids, rows["image"].to_pylist(), strict=True) if content}


def _decode(item: str, content: bytes | None, found: dict[str, Image.Image]) -> None:
    if not content:
        return
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.draft("RGB", (_LARGEST, _LARGEST))
            picture.thumbnail((_LARGEST, _LARGEST))
            found[item] = picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        log.info("picture of %s left out: %s", item, error)
