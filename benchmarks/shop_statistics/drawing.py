"""What it takes to draw a day of a shop: seconds and memory, in a process of its own."""

import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.record import Row
from jobs.base.settings import ShopSettings
from jobs.shop.generators import events_of, world_of
from jobs.shop.world import OPENING_DAY

DRAWING = "drawing a log"
_DRAWN_DAYS = 3


def drawing(name: str, shop: ShopSettings) -> Iterator[Row]:
    """Seconds and memory that it takes to draw a day of a shop of full size, without pictures and texts."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        seconds, megabytes, events = pool.submit(_draw, shop.model_copy(update={"grows": False})).result()
    yield Row(DRAWING, name, "time for a day", "s", seconds, repeats=_DRAWN_DAYS)
    yield Row(DRAWING, name, "peak memory", "MB", megabytes)
    yield Row(DRAWING, name, "events of a day", "", events, repeats=_DRAWN_DAYS)


def _draw(shop: ShopSettings) -> tuple[float, float, float]:
    # A day draws the four weeks before it too, unless they were drawn already. The shop's first days have none before.
    began, world = time.monotonic(), world_of(shop)
    events = sum(len(events_of(world, day).user) for day in range(OPENING_DAY, OPENING_DAY + _DRAWN_DAYS))
    seconds = time.monotonic() - began
    return seconds / _DRAWN_DAYS, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, events / _DRAWN_DAYS
