"""Feature extraction in Spark against a bare loop, both with the embedded encoder; and a day with few new pictures."""

import datetime as dt
import io
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.measure import beside, judged
from benchmarks.record import Row
from benchmarks.scale.process import run_job
from benchmarks.scale.world import DATE, EVENTS_PER_USER, ArrowFunction, make_settings, write_items, write_source
from jobs.base.settings import EMBEDDED, FeatureSettings, PipelineSettings
from jobs.base.spark import spark_session
from jobs.features import visual_features
from jobs.features.encoders.visual import visual_encoder
from jobs.lake.spark_tables import read_table

SPARK, LOOP = "visual_features, the whole job", "a bare loop with the same encoder, one process a core"
STARTED = "visual_features, in a Spark session that is already warm"
_SIDE = 192
_BATCH = FeatureSettings().encode_batch_size
_CHUNK = 256  # pictures handed to a process of the bare loop at a time


@dataclass(frozen=True)
class Size:
    """Attributes: pictures; how often loop and job take turns; share of the pictures that the second day changes."""

    pictures: int = 96_000
    turns: int = 2
    changed: float = 0.01


FULL = Size()
QUICK = Size(3_000, 1)


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Pictures per second of both with the embedded descriptor, and pictures encoded and time taken on the second day."""
    first = yield from against_loop(EMBEDDED, "extraction", "descriptor", size.pictures, size.turns, folder)
    yield from _second_day(first, size, folder)


def against_loop(encoder: str, family: str, kind: str, count: int, turns: int, folder: Path) -> Generator[Row, None, Row]:
    """Both throughputs; returns the time of the whole job.

    A job that runs by itself spends half a minute on starting and compiling. A loop has no such cost, and the number of
    pictures does not change it. So the bar is for a job in a Spark session that has already run the same job on fewer pictures.
    Loop and job take turns, and a job is compared with the loops just before and after it, because the speed of a shared
    machine changes by the minute.
    """
    few, settings = (_fresh(folder / f"{family.replace(' ', '_')}-{number}", encoder) for number in (count // 8, count))
    _write_day(few, count // 8)
    pictures = _write_day(settings, count)
    alone = _run(settings, folder)[0]
    loops, jobs = [_loop_seconds(encoder, pictures)], list[float]()
    with spark_session(settings, "benchmark"):
        visual_features.run(few)
        for _ in range(turns):
            _forget(settings)
            started = time.perf_counter()
            visual_features.run(settings)
            jobs.append(time.perf_counter() - started)
            loops.append(_loop_seconds(encoder, pictures))
    around = [fmean(pair) for pair in pairwise(loops)]
    ratio = median(loop / job for loop, job in zip(around, jobs, strict=True))
    case = f"{family}: {count:,} pictures of {_SIDE} x {_SIDE}, {kind}"
    peer = Row(case, LOOP, "throughput", "pictures/s", count / median(loops), len(loops))
    yield peer
    warm = replace(peer, subject=STARTED, value=count / median(jobs), repeats=len(jobs), peer=LOOP, ratio=ratio)
    yield judged(warm, "ratio >= 0.9")
    yield beside(replace(peer, subject=SPARK, value=count / alone, repeats=1), peer)
    return Row(case, SPARK, "time", "s", alone)


def _second_day(first: Row, size: Size, folder: Path) -> Iterator[Row]:
    """The day after the large job, with a few new pictures."""
    pictures = size.pictures
    today = DATE + dt.timedelta(days=1)
    tomorrow = make_settings(folder / f"extraction-{pictures}", date=today, run={"reuse": False})
    _write_day(tomorrow, pictures, changed=size.changed)
    seconds, encoded = _run(tomorrow, folder)
    again = f"{first.case}, {size.changed:.0%} new"
    full = Row(first.case, SPARK, "pictures encoded", "pictures", pictures)
    yield full
    yield judged(beside(replace(full, case=again, value=encoded), full), f"ratio <= {1.5 * size.changed:.3f}")
    yield first
    yield beside(replace(first, case=again, value=seconds, repeats=1), first)


def _fresh(home: Path, encoder: str) -> PipelineSettings:
    """Settings of an empty home, because pictures that an earlier benchmark encoded would not be encoded again."""
    shutil.rmtree(home, ignore_errors=True)
    return make_settings(home, run={"reuse": False}, features={"visual_encoder": encoder})


def _write_day(settings: PipelineSettings, count: int, changed: float = 0.0) -> Path:
    """Write source and `items` of a date; returns the folder of the pictures."""
    pictures = Path(settings.data.source) / "images.parquet"
    with spark_session(settings, "benchmark") as spark:
        write_source(spark, settings, count, num_users=EVENTS_PER_USER)
        write_items(spark, settings, count)
        items = read_table(spark, settings, "items", ["item_index", "item_id"]).repartition(16, "item_index")
        drawn = items.mapInArrow(_pictures(int(changed * count)), "item_id string, image binary")
        drawn.write.mode("overwrite").parquet(str(pictures))
    return pictures


def _run(settings: PipelineSettings, folder: Path) -> tuple[float, int]:
    """Seconds of the job as a command of its own, and the pictures it encoded: all except those known from an earlier date."""
    _forget(settings)
    log = folder / "logs" / f"extraction-{settings.ds}.log"
    measured = run_job("visual_features", settings.run_dir / "settings.json", log=log)
    record = json.loads((settings.run_dir / "steps" / "visual_features.json").read_text())
    return measured.seconds, record["summary"]["encoded"]


def _forget(settings: PipelineSettings) -> None:
    """Remove what a run of the date published, because another run would carry it over."""
    shutil.rmtree(settings.home / "lake" / "visual_features" / f"date={settings.ds}", ignore_errors=True)


def _loop_seconds(encoder: str, pictures: Path) -> float:
    """Encode the table of pictures into a table of vectors, with one process for each core that does nothing else."""
    first = pq.ParquetFile(next(pictures.glob("*.parquet"))).read_row_group(0)["image"][:1].to_pylist()
    encode = partial(_encode, encoder, pictures.parent / "models")
    with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1, _one_thread) as pool:
        pool.map(encode, [first] * 2 * (os.cpu_count() or 1))  # imports are not measured
        started = time.perf_counter()
        table = pq.read_table(pictures)
        chunks = (table["image"][start : start + _CHUNK].to_pylist() for start in range(0, len(table), _CHUNK))
        vectors = np.concatenate(list(pool.imap(encode, chunks)))
        column = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
        pq.write_table(pa.table({"item_id": table["item_id"], "vector": column}), pictures.parent.parent / "loop.parquet")
        return time.perf_counter() - started


def _one_thread() -> None:
    torch.set_num_threads(1)


def _encode(name: str, cache: Path, images: list[bytes]) -> np.ndarray:
    encoder = visual_encoder(name, cache, "float32")
    ready = [picture for picture, _ in map(encoder.prepare, images) if picture is not None]
    batches = [ready[start : start + _BATCH] for start in range(0, len(ready), _BATCH)]
    return np.concatenate([encoder.encode(batch) for batch in batches])


def _pictures(num_changed: int) -> ArrowFunction:
    """JPEG pictures of soft coloured noise, one for each item; the first `num_changed` differ from those of the day before."""

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
