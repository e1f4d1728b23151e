"""The cluster index that training reads: the time to open it, and the memory that a second process of the host adds."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psutil
import torch

from benchmarks.measure import judged
from benchmarks.record import Row
from esans_core.cluster_index import ClusterIndex

_all_open: Barrier  # all processes meet here when each has the index open
_PATIENCE = 300  # seconds; processes may start slowly on a busy machine
_SUBJECT = "cluster index, memory-mapped"


@dataclass(frozen=True)
class Size:
    """Attributes: items; primary and secondary codes; processes that have it open at once; repeats."""

    items: int = 10_000_000
    num_primary: int = 1_024
    num_secondary: int = 256
    processes: int = 2
    repeats: int = 5


FULL = Size()
QUICK = Size(items=200_000, repeats=2)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Seconds to open, bytes on disk, and private memory of processes that use all of it."""
    generator = torch.Generator().manual_seed(0)
    primary, secondary = (
        torch.randint(codes, (size.items,), generator=generator) for codes in (size.num_primary, size.num_secondary)
    )
    saved = folder / f"index-{size.items}"
    ClusterIndex.from_labels(primary, secondary, size.num_primary).save(saved)
    taken = []
    for _ in range(size.repeats):
        started = time.perf_counter()
        ClusterIndex.load(saved)
        taken.append(time.perf_counter() - started)
    case = f"index: {size.items:,} items"
    yield judged(Row(case, _SUBJECT, "time to open", "s", statistics.median(taken), size.repeats), "value <= 1")
    bytes_on_disk = sum(path.stat().st_size for path in saved.iterdir())
    yield Row(case, _SUBJECT, "on disk", "bytes/item", bytes_on_disk / size.items)
    private = _private_bytes(saved, size.processes)
    yield Row(case, f"{_SUBJECT}, {size.processes} processes", "private memory of each", "bytes/item", private / size.items)


def _private_bytes(saved: Path, processes: int) -> float:
    """Mean growth of the private memory of processes that read every page of the index, while all of them have it open."""
    context = multiprocessing.get_context("spawn")
    all_open = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _share, (all_open,)) as pool:
        return statistics.mean(pool.map(_read_all, [saved] * processes))


def _share(all_open: Barrier) -> None:
    global _all_open
    _all_open = all_open


def _read_all(saved: Path) -> int:
    def opened() -> ClusterIndex:
        index = ClusterIndex.load(saved)
        for values in (index.order, index.group_of_item):
            values.amax()
        return index

    opened()  # and closed again, so that the process's own threads and buffers exist before anything is measured
    here = psutil.Process()
    before = here.memory_full_info().uss
    index = opened()
    _all_open.wait(_PATIENCE)
    grown = here.memory_full_info().uss - before
    _all_open.wait(_PATIENCE)  # a page counts as private as soon as no other process has it open
    del index
    return grown
