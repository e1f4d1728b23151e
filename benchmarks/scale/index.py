"""The cluster index that training reads: time to open it, and what a second process of the host adds."""

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import psutil
import torch

from benchmarks.measure import judged
from benchmarks.record import Row
from esans_core.cluster_index import ClusterIndex

_SUBJECT = "cluster index, memory-mapped"


@dataclass(frozen=True)
class Size:
    """Attributes: items; primary and secondary codes; processes that open it at once; repeats."""

    items: int = 10_000_000
    num_primary: int = 1_024
    num_secondary: int = 256
    processes: int = 2
    repeats: int = 5


FULL = Size()
QUICK = Size(items=200_000, repeats=2)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Seconds to open, bytes on disk, and private memory of processes that have all of it in use."""
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
    ready, leave = [context.Event() for _ in range(processes)], context.Event()
    grown = [context.Value("q", 0) for _ in range(processes)]
    started = [
        context.Process(target=_read_all, args=(str(saved), ready[number], leave, grown[number])) for number in range(processes)
    ]
    for process in started:
        process.start()
    for event in ready:
        event.wait()
    leave.set()
    for process in started:
        process.join()
    return statistics.mean(value.value for value in grown)


def _read_all(saved: str, ready: Event, leave: Event, grown: "multiprocessing.sharedctypes.Synchronized[int]") -> None:
    here = psutil.Process()
    before = here.memory_full_info().uss
    index = ClusterIndex.load(Path(saved))
    for values in (index.order, index.group_of_item):
        values.amax()
    ready.set()
    leave.wait()
    grown.value = here.memory_full_info().uss - before
    del index
