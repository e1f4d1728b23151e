"""Feature extraction in Spark against a bare loop with the same encoder, cheap and dear; and a day with few new pictures."""

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
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import torch
from PIL import Image

from benchmarks.measure import beside, judged
from benchmarks.record import Row
from benchmarks.scale.process import run_job
from benchmarks.scale.world import DATE, EVENTS_PER_USER, ArrowFunction, make_settings, write_items, write_source
from jobs.encoders.visual import visual_encoder
from jobs.settings import EMBEDDED, FeatureSettings, PipelineSettings
from jobs.spark import spark_session
from jobs.spark_tables import read_table

SPARK, LOOP = "visual_features, the whole job", "a bare loop with the same encoder, one process a core"
FURTHER = "visual_features, a further picture"
_SIDE = 192
_BATCH = FeatureSettings().encode_batch_size
_CHUNK = 256  # pictures handed to a process of the bare loop at a time


@dataclass(frozen=True)
class Count:
    """Attributes: pictures of the large job; of the small one; of the loop; runs of each."""

    large: int
    small: int
    loop: int
    repeats: int


@dataclass(frozen=True)
class Size:
    """Attributes: counts for the embedded descriptor and for a vision transformer; share that the second day changes."""

    # At fewer pictures the JVM is still compiling what a large job runs compiled; a task of a job has 512 pictures.
    embedded: Count = Count(144_000, 48_000, 24_000, 2)
    model: Count = Count(4_096, 1_024, 1_024, 2)
    changed: float = 0.01


FULL = Size()
QUICK = Size(Count(3_000, 500, 1_000, 1), Count(192, 64, 64, 1))


def rows(size: Size, folder: Path) -> Iterator[Row]:
    """Pictures a second of both, with a cheap and with a dear encoder, and what the second day encodes and takes."""
    first = yield from _against_loop(EMBEDDED, size.embedded, folder)
    yield from _second_day(first, size, folder)
    yield from _against_loop(str(_vision_transformer(folder / "model")), size.model, folder)


def _against_loop(encoder: str, count: Count, folder: Path) -> Generator[Row, None, Row]:
    """Both throughputs; gives the time of the large job.

    A job starts in half a minute, whatever it has to do, which no loop does; so its throughput is held against the loop's by
    the time of a further picture, between a small job and a large one. Loop and jobs take turns, for the speed of a machine
    that is shared with others changes.
    """
    few, settings = (_fresh(folder / f"extraction-{number}", encoder) for number in (count.small, count.large))
    _write_day(few, count.small)
    pictures = _write_day(settings, count.large)
    loops, smalls, larges = [_loop_seconds(encoder, pictures, count.loop)], list[float](), list[float]()
    for _ in range(count.repeats):
        smalls.append(_run(few, folder)[0])
        loops.append(_loop_seconds(encoder, pictures, count.loop))
        larges.append(_run(settings, folder)[0])
        loops.append(_loop_seconds(encoder, pictures, count.loop))
    kind = "descriptor" if encoder == EMBEDDED else "ViT-S/32 with 224 x 224"
    case = f"extraction: {count.large:,} pictures of {_SIDE} x {_SIDE}, {kind}"
    whole, started = fmean(larges), fmean(smalls)
    peer = Row(case, LOOP, "throughput", "pictures/s", count.loop / fmean(loops), len(loops))
    yield peer
    further = replace(peer, subject=FURTHER, value=(count.large - count.small) / (whole - started), repeats=count.repeats)
    yield beside(further, peer, "ratio >= 0.9")
    yield beside(replace(peer, subject=SPARK, value=count.large / whole, repeats=count.repeats), peer)
    return Row(case, SPARK, "time", "s", whole, count.repeats)


def _second_day(first: Row, size: Size, folder: Path) -> Iterator[Row]:
    """The day after the large job, with a few new pictures."""
    pictures = size.embedded.large
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


def _vision_transformer(folder: Path) -> Path:
    """A CLIP-class vision tower of the size of ViT-S/32, with weights drawn at random: they do not change how long it takes."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

    torch.manual_seed(0)
    config = CLIPVisionConfig(hidden_size=384, intermediate_size=1536, num_attention_heads=6)
    CLIPVisionModel(config).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder


def _fresh(home: Path, encoder: str) -> PipelineSettings:
    """Settings of an empty home: what an earlier benchmark encoded would not be encoded again."""
    shutil.rmtree(home, ignore_errors=True)
    return make_settings(home, run={"reuse": False}, features={"visual_encoder": encoder})


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
    """Seconds of the job, and the pictures it encoded: all but those that an earlier date knows."""
    shutil.rmtree(settings.home / "lake" / "visual_features" / f"date={settings.ds}", ignore_errors=True)
    log = folder / "logs" / f"extraction-{settings.ds}.log"
    measured = run_job("visual_features", settings.run_dir / "settings.json", log=log)
    record = json.loads((settings.run_dir / "steps" / "visual_features.json").read_text())
    return measured.seconds, record["summary"]["encoded"]


def _loop_seconds(encoder: str, pictures: Path, count: int) -> float:
    """So many pictures through the encoder, by one process a core that does nothing else."""
    data = ds.dataset(pictures).head(count, columns=["image"])["image"].to_pylist()
    chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    encode = partial(_encode, encoder, pictures.parent / "models")
    with multiprocessing.get_context("spawn").Pool(os.cpu_count() or 1, _one_thread) as pool:
        pool.map(encode, [chunk[:1] for chunk in chunks[:1] * 2 * (os.cpu_count() or 1)])  # imports are not measured
        started = time.perf_counter()
        for _ in pool.imap_unordered(encode, chunks):
            pass
        return time.perf_counter() - started


def _one_thread() -> None:
    torch.set_num_threads(1)


def _encode(name: str, cache: Path, images: list[bytes]) -> int:
    encoder = visual_encoder(name, cache, "float32")
    ready = [picture for picture, _ in map(encoder.prepare, images) if picture is not None]
    batches = [ready[start : start + _BATCH] for start in range(0, len(ready), _BATCH)]
    return sum(len(encoder.encode(batch)) for batch in batches)


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
