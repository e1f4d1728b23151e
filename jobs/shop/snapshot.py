"""Writes the shop's folder for one date, in the form of the data contract, and the hidden truth beside it."""

import datetime as dt
import hashlib
import logging
import os
import uuid
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.base.errors import DataError
from jobs.base.publish import published_folder
from jobs.base.settings import ShopSettings
from jobs.shop import pictures
from jobs.shop.generators import events_of, world_of
from jobs.shop.texts import describe
from jobs.shop.world import FIRST_RUN, OPENING_DAY, World, date_of, day_of

log = logging.getLogger(__name__)
_MAX_FILES = 20_000  # a larger catalogue keeps its pictures in Parquet, because so many small files are slow to list and copy
_LAST_DAY = 5 * 365
_BLOCK = 1000  # pictures in one Parquet file of a large catalogue


def first_date() -> dt.date:
    """The date on which the shop opened. It has no events before."""
    return date_of(OPENING_DAY)


def last_date() -> dt.date:
    """The last date that the shop can be asked for. It grows every day, so there must be an end."""
    return date_of(_LAST_DAY)


def write_snapshot(shop: ShopSettings, home: Path, date: dt.date) -> Path:
    """Publish `<home>/source/date=D` (the data contract's tables) and `<home>/truth/date=D` (what they were drawn from).

    Pictures lie in a folder that all snapshots of one world share. Each is drawn once.

    Returns:
        The snapshot folder.

    Raises:
        DataError: on that date the shop was not open yet, or not for as many days as asked for; or the date is too far ahead.
    """
    if not first_date() <= date <= last_date():
        raise DataError(
            f"the embedded shop has no data for {date}; it runs from {first_date()} to {last_date()}.",
            remedy="choose a date between these two, or set data.source to a folder with data of your own.",
        )
    world, day = world_of(shop), day_of(date)
    if (open_days := day - OPENING_DAY + 1) < shop.num_days:
        raise DataError(
            f"the embedded shop opened on {first_date()}, so on {date} it has {open_days} days of events, but shop.num_days "
            f"asks for {shop.num_days}.",
            remedy=f"choose {first_date() + dt.timedelta(days=shop.num_days - 1)} or a later date, or fewer days.",
        )
    items = np.arange(world.num_items(day))
    leaves = world.item_leaf(items)
    target = home / "source" / f"date={date}"
    with published_folder(home / "truth" / target.name) as folder:
        _write_truth(world, day, items, leaves, folder)
    with published_folder(target) as folder:
        in_files = len(items) <= _MAX_FILES
        shelf = home / "source" / f"pictures-{_fingerprint(world)}"
        shelf.mkdir(parents=True, exist_ok=True)
        if in_files:
            _draw_files(world, items, leaves, shelf)
        else:
            _draw_blocks(world, items, leaves, shelf, folder / "images.parquet")
        _write_items(world, items, leaves, f"../{shelf.name}" if in_files else None, folder / "items.parquet")
        num_events = _write_interactions(world, day, folder / "interactions.parquet")
    num_users = world.num_users(day)
    log.info("shop on %s: %d items, %d users, %d events", date, len(items), num_users, num_events)
    if (len(items), num_users) != (shop.num_items, shop.num_users):
        log.info(
            "shop.num_items (%d) and shop.num_users (%d) are those of %s, and the shop grows every day. For exactly so many on "
            "every date, set shop.grows to false.",
            shop.num_items,
            shop.num_users,
            FIRST_RUN,
        )
    return target


def _write_truth(world: World, day: int, items: np.ndarray, leaves: np.ndarray, folder: Path) -> None:
    born = np.datetime64(date_of(0)) + world.item_born(items)
    category = leaves // world.leaves_per_category
    table = {"item_id": world.item_ids(items), "category": category, "leaf": leaves, "born": born.astype("datetime64[D]")}
    pq.write_table(pa.table(table), folder / "items.parquet")
    users = np.arange(world.num_users(day))
    # A leaf that fills two slots of a user is listed once.
    liked = np.sort(world.user_leaves(users, day), axis=1)
    first = np.concatenate([np.ones((len(users), 1), dtype=bool), liked[:, 1:] != liked[:, :-1]], axis=1)
    offsets = np.concatenate([[0], np.cumsum(first.sum(1))])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(liked[first], pa.int64()))
    pq.write_table(pa.table({"user_id": world.user_ids(users), "leaves": lists}), folder / "users.parquet")


def _write_items(world: World, items: np.ndarray, leaves: np.ndarray, shelf: str | None, path: Path) -> None:
    ids = world.item_ids(items)
    texts = [describe(world, item, world.look(item, leaf)) for item, leaf in zip(items.tolist(), leaves.tolist(), strict=True)]
    pictured = pictures.has_picture(world, items)
    paths = [f"{shelf}/{name}.jpg" if shelf and shown else None for name, shown in zip(ids, pictured, strict=True)]
    table = pa.table(
        {
            "item_id": ids,
            "title": pa.array([text.title for text in texts], pa.string()),
            "text": pa.array([text.text for text in texts], pa.string()),
            "image_path": pa.array(paths, pa.string()),
        }
    )
    pq.write_table(table, path)


def _write_interactions(world: World, day: int, path: Path) -> int:
    """Write one row group for each day, so that a year of a large shop is never in memory at once; return the rows."""
    user_ids = pa.array(world.user_ids(np.arange(world.num_users(day))))
    item_ids = pa.array(world.item_ids(np.arange(world.num_items(day))))
    schema = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
    rows = 0
    with pq.ParquetWriter(path, schema) as writer:
        for covered in range(max(OPENING_DAY, day - world.shop.num_days + 1), day + 1):
            events = events_of(world, covered)
            columns = [user_ids.take(pa.array(events.user)), item_ids.take(pa.array(events.item)), pa.array(events.timestamp)]
            writer.write_table(pa.table(columns, schema=schema))
            rows += len(events.user)
    return rows


def _draw_files(world: World, items: np.ndarray, leaves: np.ndarray, shelf: Path) -> None:
    there = {path.name for path in shelf.iterdir()}
    for item, name, shown in zip(items.tolist(), world.item_ids(items), pictures.has_picture(world, items), strict=True):
        if shown and f"{name}.jpg" not in there:
            _write_whole(shelf / f"{name}.jpg", pictures.draw_item(world, item, int(leaves[item])))


def _draw_blocks(world: World, items: np.ndarray, leaves: np.ndarray, shelf: Path, target: Path) -> None:
    """Link blocks of pictures from the shelf into the snapshot. Only blocks that are new or have grown are drawn."""
    blocks = [(start, min(start + _BLOCK, len(items))) for start in range(0, len(items), _BLOCK)]
    missing = [block for block in blocks if not (shelf / _block_name(block)).exists()]
    # Workers are new processes, because a fork of a process that has threads (those of Arrow) can hang.
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        jobs = [pool.submit(_draw_block, world.shop, start, leaves[start:stop], shelf) for start, stop in missing]
        for number, job in enumerate(jobs, 1):
            job.result()
            log.info("drew block %d of %d", number, len(jobs))
    target.mkdir()
    for block in blocks:
        (target / _block_name(block)).hardlink_to(shelf / _block_name(block))


def _draw_block(shop: ShopSettings, start: int, leaves: np.ndarray, shelf: Path) -> None:
    world = world_of(shop)
    items = start + np.arange(len(leaves))
    shown = pictures.has_picture(world, items)
    drawn = [pictures.draw_item(world, int(item), int(leaf)) for item, leaf in zip(items[shown], leaves[shown], strict=True)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"item_id": world.item_ids(items[shown]), "image": pa.array(drawn, pa.binary())}), sink)
    _write_whole(shelf / _block_name((start, start + len(leaves))), sink.getvalue().to_pybytes())


def _block_name(block: tuple[int, int]) -> str:
    return f"items-{block[0]:08d}-{block[1]:08d}.parquet"


def _write_whole(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError:  # a full disk must not be filled with parts
        temporary.unlink(missing_ok=True)
        raise


def _fingerprint(world: World) -> str:
    """Hash of all that pictures depend on, so that another generator, seed or size of catalogue gets a shelf of its own."""
    parts: tuple[object, ...] = (pictures.VERSION, world.seed, world.num_categories, world.leaves_per_category)
    if world.shop.generator != "v1":  # whose shelves were named before there were others
        parts += (world.shop.generator,)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:10]
