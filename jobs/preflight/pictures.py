"""The pictures of a source before a run: which are there, which cannot be used and why, and which are one and the same."""

import hashlib
from collections import Counter
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.base.settings import PipelineSettings
from jobs.preflight.looked import Looked
from jobs.source.images import picture_paths
from jobs.source.picture_cache import PictureCache
from jobs.source.picture_content import Picture, decode_picture
from jobs.source.picture_fetching import fetch_pictures
from jobs.source.picture_files import EMPTY, REFUSED_SCHEME, find_picture, nearest_existing, read_file
from jobs.source.picture_hosts import is_url
from jobs.source.picture_words import counted as in_words
from jobs.source.tables import Source

_PICTURES, _CONTENTS = 300, 100  # picture files looked at, and of how many pictures the content is opened and compared
_SIDE = 64  # pixels


def of_pictures(source: Source, settings: PipelineSettings, looked: Looked) -> list[str]:
    """Which pictures are missing and where they were looked for, which cannot be used, and which are alike.

    Args:
        source: the input tables.
        settings: of the run that is meant.
        looked: takes the number of pictures, and what a run will say of those that are alike.
    """
    inside = [table.where("image is not null") for table in (source.items, source.images) if table is not None]
    number_inside = sum(table.count() for table in inside)
    found = [f"{number_inside:,} pictures lie in the tables."] if number_inside else []
    paths, fetched = picture_paths(source, settings.pictures.per_item), PictureCache.of(settings)
    number = paths.count()
    if not (number or number_inside):
        return ["There are no pictures."]
    looked.pictures = number_inside + number
    contents = [row["image"] for row in inside[-1].select("image").limit(_CONTENTS).collect()] if number_inside else []
    if number:
        chosen = paths.orderBy(F.xxhash64("item_id"), "image_path").limit(_PICTURES).collect()
        fetch_pictures({row["image_path"].strip() for row in chosen if is_url(row["image_path"])}, settings)
        looked_at = [
            (row["item_id"], row["image_path"], find_picture(source.folder, row["image_path"], fetched)) for row in chosen
        ]
        lost = [(item, seen) for item, _, seen in looked_at if seen.why]
        items = paths.select("item_id").distinct().count()
        there = [given for _, given, seen in looked_at if not seen.why]
        found.append(f"{items:,} items name {number:,} picture files; of {len(looked_at)} looked at, {len(there)} can be read.")
        reasons = Counter(seen.why for _, seen in lost)
        found += [f"not readable: {in_words(dict(reasons.most_common()))}."] if lost else []
        if reasons[REFUSED_SCHEME]:
            found.append("Pictures by URL are fetched only from servers that the setting pictures.hosts names.")
        for item, seen in lost[:3]:
            near = nearest_existing(seen)
            found.append(f"item '{item}' was looked for at {seen.tried}" + (f"; what exists is {near}." if near else "."))
        contents += [read_file(source.folder, given, fetched) or b"" for given in there[:_CONTENTS]]
    decoded = [decode_picture(content, _SIDE) if content else Picture(None, (EMPTY,)) for content in contents]
    usable = [content for content, picture in zip(contents, decoded, strict=True) if picture.image is not None]
    same = Counter(hashlib.sha256(content).hexdigest() for content in usable)
    total, most = len(usable), max(same.values(), default=0)
    if total > 1 and most > 1:
        found.append(
            f"{most} of {total} pictures that were compared are identical" + (", all of them." if most == total else ".")
        )
        # The gate compares items. It will say the same if all pictures were compared, and each is an item of its own.
        tables = [paths, *inside]
        items_of = reduce(DataFrame.union, [table.select("item_id") for table in tables]).distinct().count()
        looked.foresee("picture", most, total, surely=total == looked.pictures == items_of)
    return [*found, *_bad_contents(decoded)]


def _bad_contents(decoded: list[Picture]) -> list[str]:
    """Why some pictures cannot be decoded, as the visual features say it."""
    causes = Counter(picture.traits[0] for picture in decoded if picture.image is None)
    if not causes:
        return []
    why = in_words(dict(causes.most_common()))
    return [
        f"of {len(decoded)} pictures that were opened, {causes.total()} cannot be used: {why}. An item keeps its view if "
        "another picture of it can be used."
    ]
