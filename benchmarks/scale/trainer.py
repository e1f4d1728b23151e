"""Memory of training as the log grows. Each log is trained on for the same number of steps, a smaller log in more epochs,
because the allocator's memory grows in the first few hundred steps with any log."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import beside
from benchmarks.record import Row
from benchmarks.scale.process import run_job
from benchmarks.scale.world import EVENTS_PER_USER, make_settings, write_items, write_sequences, write_views
from jobs.base.spark import spark_session

TRAINER = "train baseline"


@dataclass(frozen=True)
class Size:
    """Attributes: users of each log, ascending; items; events of a window. A window is smaller than the smallest log, because
    memory grows until one is full. The towers are small, so that the cost of reading the log shows."""

    users: tuple[int, ...] = (50_000, 500_000)
    items: int = 50_000
    window: int = 500_000


FULL = Size()
QUICK = Size(users=(2_000, 6_000), items=2_000, window=10_000)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Peak memory and events per second of each log, compared with the smallest."""
    first: Row | None = None
    for num_users in size.users:
        epochs = size.users[-1] // num_users
        home = folder / f"trainer-{num_users}"
        shutil.rmtree(home, ignore_errors=True)  # removes its checkpoints too; otherwise there would be nothing left to train
        settings = make_settings(
            home,
            sampling={"num_per_positive": 1},
            training={
                "epochs": epochs,
                "patience": epochs,
                "window_events": size.window,
                "embedding_dim": 16,
                "num_heads": 1,
                "max_history": EVENTS_PER_USER,
                "batch_size": 8192,
            },
            run={"reuse": False},
        )
        with spark_session(settings, "benchmark") as spark:
            write_items(spark, settings, size.items)
            write_views(spark, settings, size.items, ("visual", "text", "behaviour"))
            write_sequences(spark, settings, size.items, num_users)
        log = folder / "logs" / f"trainer-{num_users}.log"
        measured = run_job("train", settings.run_dir / "settings.json", "baseline", log=log)
        events = num_users * EVENTS_PER_USER
        case = f"trainer: {events:,} events, {size.items:,} items"
        yield Row(case, TRAINER, "throughput", "events/s", epochs * events / measured.seconds)
        memory = Row(case, TRAINER, "peak memory", "MB", measured.driver_mb)
        if first is None:
            first = replace(memory, subject=case.partition(": ")[2])
            yield memory
        else:
            yield beside(memory, first, "ratio <= 1.20")
