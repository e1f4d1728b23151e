"""Feature extraction in Spark against a bare loop with the same encoder, and a day on which one picture in a hundred is new."""

import datetime as dt
import io
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.measure import beside, judged
from benchmarks.record import Row
from benchmarks.scale.process import run_job
from benchmarks.scale.world import EVENTS_PER_USER, ArrowFunction, make_settings, write_items, write_source
from jobs.encoders.visual import DescriptorEncoder
from jobs.settings import PipelineSettings
from jobs.spark import spark_session
from jobs.spark_tables import read_table

SPARK, LOOP = "visual_features, the whole job", "a bare loop with the same encoder, one process a core"
FURTHER = "visual_features, a further picture"
_SIDE = 192
_CHUNK = 256  # pictures handed to a process of the bare loop at a time


@dataclass(frozen=True)
class Size:
    """Attributes: pictures; pictures of the small job, whose time is that of starting; share that the second day changes."""

    pictures: int = 40_000
    few: int = 2_000
    changed: float = 0.01


FULL = Size()
QUICK = Size(pictures=3_000, few=500)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Pictures a second of both, and what the second day encodes and takes.

    A job starts in half a minute, whatever it has to do, which no loop does; so its throughput is held against the loop's by
    the time of a further picture, between a small job and a large one. The loop runs before and after the large job: the
    speed of a machine that is shared with others changes.
    """
    few, settings = (_fresh(folder / f"extraction-{count}") for count in (size.few, size.pictures))
    case = f"extraction: {size.pictures:,} pictures of {_SIDE} x {_SIDE}"
    _write_day(few, size.few)
    started, _ = _run(few, folder)
    pictures = _write_day(settings, size.pictures)
    before = _loop_seconds(pictures)
    first, encoded = _run(settings, folder)
    looped = (before + _loop_seconds(pictures)) / 2
    peer = Row(case, LOOP, "throughput", "pictures/s", size.pictures / looped)
    yield peer
    further = (size.pictures - size.few) / (first - started)
    yield beside(replace(peer, subject=FURTHER, value=further), peer, "ratio >= 0.9")
    yield beside(replace(peer, subject=SPARK, value=encoded / first), peer)

    tomorrow = make_settings(settings.home, date=settings.date + dt.timedelta(days=1), run={"reuse": False})
    _write_day(tomorrow, size.pictures, changed=size.changed)
    second, encoded = _run(tomorrow, folder)
    again = f"{case}, {size.changed:.0%} new"
    full = Row(case, SPARK, "pictures encoded", "pictures", size.pictures)
    yield full
    yield judged(beside(replace(full, case=again, value=encoded), full), f"ratio <= {1.5 * size.changed:.3f}")
    whole = Row(case, SPARK, "time", "s", first)
    yield whole
    yield beside(replace(whole, case=again, value=second), whole)


def _fresh(home: Path) -> PipelineSettings:
    """Settings of an empty home: what an earlier benchmark encoded would not be encoded again."""
    shutil.rmtree(home, ignore_errors=True)
    return make_settings(home, run={"reuse": False})


def _write_day(settings: PipelineSettings, count: int, changed: float = 0.0) -> Path:
    """Source and `items` of a date; gives the folder of the pictures."""
    pictures = Path(settings.data.source) / "images.parquet"
    with spark_session(settings, "benchmark") as spark:
        write_source(spark, settings, count, num_users=EVENTS_PER_USER)
        write_items(spark, settings, count)
        items = read_table(spark, settings, "items", ["item_index", "item_id"]).repartition(16, "item_index")
        drawn = items.mapInArrow(_pictures(int(changed * count)), "item_id string, image binary")
        drawn.write.mode("overwrite").parquet(str(pictures))
    return pictures


def _run(settings: PipelineSettings, folder: Path) -> tuple[float, int]:
    """Seconds of the job, and the pictures it encoded."""
    log = folder / "logs" / f"extraction-{settings.ds}.log"
    measured = run_job("visual_features", settings.run_dir / "settings.json", log=log)
    record = json.loads((settings.run_dir / "steps" / "visual_features.json").read_text())
    return measured.seconds, record["summary"]["encoded"]


def _loop_seconds(pictures: Path) -> float:
    """Every picture through the encoder, by one process a core that does nothing else."""
    data = pq.read_table(pictures, columns=["image"])["image"].to_pylist()
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1, _one_thread) as pool:
        pool.map(_encode, [chunk[:1] for chunk in chunks[: 2 * (os.cpu_count() or 1)]])  # imports are not measured
        started = time.perf_counter()
        for _ in pool.imap_unordered(_encode, chunks):
            pass
        return time.perf_counter() - started


def _one_thread() -> None:
    torch.set_num_threads(1)


def _encode(images: list[bytes]) -> int:
    encoder = DescriptorEncoder()
    pictures = [picture for picture, _ in map(encoder.prepare, images) if picture is not None]
    return len(encoder.encode(pictures))


def _pictures(num_changed: int) -> ArrowFunction:
    """JPEG pictures of soft coloured noise, one for each item; the first `num_changed` are others than on the day before."""

    def make(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            images = []
            for item in batch["item_index"].to_numpy():
                random = np.random.default_rng([int(item), int(item < num_changed)])
                small = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8))
                stream = io.BytesIO()
                small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=85)
                images.append(stream.getvalue())
            yield pa.RecordBatch.from_arrays([batch["item_id"], pa.array(images, pa.binary())], ["item_id", "image"])

    return make
