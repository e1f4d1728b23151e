"""A day's Spark and clustering steps at growing catalogues, each as the command that a run executes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import beside
from benchmarks.record import Row
from benchmarks.scale.process import Measured, run_job
from benchmarks.scale.world import DATE, EVENTS_PER_USER, make_settings, write_source, write_views
from jobs.base.settings import PipelineSettings
from jobs.base.spark import spark_session
from jobs.lake.tables import Lake

# Each step, and the tables that it writes.
STEPS = {
    "ingest": ("items", "users", "interactions", "quarantine"),
    "behaviour_features": ("behaviour_features",),
    "fit_codebooks": ("codebooks",),
    "assign_clusters": ("clusters", "cluster_index"),
    "build_training_set": ("sequences",),
}
_FLAT = "ratio <= 1.20"
_JUDGED = ("time for each item", "peak memory of the driver")


@dataclass(frozen=True)
class Size:
    """Attributes: catalogue sizes, ascending; items for each user of the log; items that codebooks are fitted on."""

    items: tuple[int, ...] = (1_000_000, 3_000_000, 10_000_000)
    items_per_user: int = EVENTS_PER_USER  # one event for each item
    fitted_on: int = 200_000


FULL = Size()
QUICK = Size(items=(20_000, 60_000), fitted_on=10_000)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Time and memory of each step at each size, compared with the smallest size."""
    return judged_by_smallest(_measured(size, folder))


def judged_by_smallest(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, with a bar: as the catalogue grows, the time for each item and the memory of the driver stay the same."""
    smallest: dict[tuple[str, str], Row] = {}
    for row in rows:
        first = smallest.setdefault((row.subject, row.metric), row)
        if row.metric in _JUDGED and first is not row:
            yield beside(row, replace(first, subject=first.case.removeprefix("daily: ")), _FLAT)
        else:
            yield row


def _measured(size: Size, folder: Path) -> Iterator[Row]:
    for num_items in size.items:
        settings = world(folder / f"items-{num_items}", num_items, size)
        for step in STEPS:
            if step == "fit_codebooks":  # its inputs are numbered by ingest
                with spark_session(settings, "benchmark") as spark:
                    write_views(spark, settings, num_items, ("visual", "text"))
            log = folder / "logs" / f"{step}-{num_items}.log"
            yield from step_rows(settings, step, num_items, run_job(step, settings.run_dir / "settings.json", log=log))


def world(home: Path, num_items: int, size: Size) -> PipelineSettings:
    """A source of that many items, with the settings of its runs; a source that is there already is used again."""
    settings = make_settings(
        home,
        features={"behaviour_dim": 32},
        clusters={"num_primary": 128, "num_secondary": 64, "max_train_items": size.fitted_on},
        spark={"driver_memory": "8g"},  # docs/scaling.md asks for this from a few million items on
        run={"reuse": False},
    )
    if not (home / "source" / "interactions.parquet" / "_SUCCESS").exists():
        with spark_session(settings, "benchmark") as spark:
            write_source(spark, settings, num_items, num_items // size.items_per_user)
    return settings


def step_rows(settings: PipelineSettings, step: str, num_items: int, measured: Measured) -> Iterator[Row]:
    """The rows of one run of a step."""
    case = f"daily: {num_items:,} items"
    yield Row(case, step, "time", "s", measured.seconds)
    yield Row(case, step, "time for each item", "us/item", 1e6 * measured.seconds / num_items)
    yield Row(case, step, "throughput", "items/s", num_items / measured.seconds)
    yield Row(case, step, "peak memory of the driver", "MB", measured.driver_mb)
    if measured.jvm_mb:
        yield Row(case, step, "peak memory of the JVM", "MB", measured.jvm_mb)
        yield Row(case, step, "peak memory of the workers", "MB", measured.workers_mb)
    lake = Lake.of(settings)
    left = [path for table in STEPS[step] if lake.exists(table, DATE) for path in lake.path(table, DATE).rglob("*")]
    yield Row(case, step, "written", "bytes/item", sum(path.stat().st_size for path in left if path.is_file()) / num_items)
