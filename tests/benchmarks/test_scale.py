"""The scale benchmark at tiny size: what it makes and what its rows say, never how long anything takes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from benchmarks.record import Row
from benchmarks.scale import daily, index, plot, process
from benchmarks.scale.__main__ import write_case
from benchmarks.scale.world import (
    DATE,
    EVENTS_PER_USER,
    VIEWS,
    make_settings,
    write_items,
    write_sequences,
    write_source,
    write_views,
)
from benchmarks.table import block
from jobs.lake.tables import Lake
from jobs.source import ingest
from jobs.training import build_training_set

METRICS = ("time for each item", "peak memory of the driver")


def test_a_command_is_watched_by_its_parts(tmp_path: Path) -> None:
    code = "import time; held = bytearray(150 * 2**20); held[::4096] = b'x' * len(held[::4096]); time.sleep(2)"
    measured = process.run_command([sys.executable, "-c", code], tmp_path / "log")
    assert measured.seconds > 2 and 150 <= measured.driver_mb < 400
    assert measured.jvm_mb == measured.workers_mb == 0


def test_a_failed_command_says_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\nthe disk is full"):
        process.run_command([sys.executable, "-c", "import sys; print('the disk is full'); sys.exit(3)"], tmp_path / "log")


@pytest.mark.slow
def test_the_index_opens_without_private_copies(tmp_path: Path) -> None:
    size = index.Size(items=500_000, num_primary=16, num_secondary=8, repeats=1)
    rows = {row.metric: row for row in index.rows(size, tmp_path)}
    assert rows["on disk"].value == pytest.approx(8, abs=0.5)
    assert rows["private memory of each"].value < 1  # a copy would be 8 bytes an item
    assert rows["time to open"].bar == "value <= 1"


def test_a_case_takes_the_place_of_its_earlier_rows_and_of_no_others(tmp_path: Path) -> None:
    def row(case: str, value: float) -> Row:
        return Row(case, "who", "what", "s", value)

    write_case(tmp_path, "daily", [row("daily: 1,000 items", 1), row("daily: 3,000 items", 2)], "all")
    write_case(tmp_path, "assignment", [row("spark assignment: 1,000 items", 3)], "all")
    write_case(tmp_path, "daily", [row("daily: 1,000 items", 4)], "python -m benchmarks.scale --only daily")
    found = json.loads((tmp_path / "scale.json").read_text())
    assert [(each["case"], each["value"]) for each in found["rows"]] == [
        ("spark assignment: 1,000 items", 3),
        ("daily: 1,000 items", 4),
    ]
    assert {name: about["command"] for name, about in found["measured"].items()} == {
        "daily": "python -m benchmarks.scale --only daily",
        "assignment": "all",
    }


def test_steps_are_judged_against_the_smallest_catalogue() -> None:
    rows = [
        Row(f"daily: {count:,} items", "ingest", metric, "x", value)
        for count, values in ((1_000, (2.0, 100.0)), (9_000, (2.5, 110.0)))
        for metric, value in zip(METRICS, values, strict=True)
    ]
    judged = list(daily.judged_by_smallest(rows))
    assert judged[:2] == rows[:2]
    assert [(row.peer, row.ratio, row.holds) for row in judged[2:]] == [
        ("1,000 items", 1.25, False),
        ("1,000 items", 1.1, True),
    ]
    shown = block({"rows": [{key: value for key, value in vars(row).items() if value is not None} for row in judged]})
    assert "A day: ingest, time for each item | 1.25 | 1,000 items | ratio <= 1.20: **missed**" in shown


def test_the_plot_is_drawn(tmp_path: Path) -> None:
    measured = [(count, step, metric) for count in (1_000, 9_000) for step in daily.STEPS for metric in METRICS]
    rows = [Row(f"daily: {count:,} items", step, metric, "x", count / 1e3) for count, step, metric in measured]
    plot.steps(rows, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 10_000


@pytest.mark.spark
def test_the_world_is_one_that_the_jobs_take(tmp_path: Path, spark: SparkSession) -> None:
    num_items, num_users = 2_000, 300
    settings = make_settings(tmp_path, clusters={"num_primary": 8})
    write_source(spark, settings, num_items, num_users)
    summary = ingest.run(settings)
    assert summary["items"] == num_items and summary["rejected"] == {"interactions": {}, "items": {}}
    lake = Lake.of(settings)
    assert lake.manifest("interactions", DATE)["rows"] == num_users * EVENTS_PER_USER
    write_views(spark, settings, num_items, VIEWS)
    for name, width in VIEWS.items():
        table = lake.read(f"{name}_features", DATE)
        vectors = np.stack(table["vector"].to_numpy())
        assert vectors.shape == (num_items, width) and len(np.unique(vectors, axis=0)) == num_items
        assert table["item_id"].to_pylist() == lake.read("items", DATE)["item_id"].to_pylist()
    build_training_set.run(settings)
    by_jobs = lake.read("sequences", DATE).to_pydict()
    write_sequences(spark, settings, num_items, num_users)
    assert lake.read("sequences", DATE, ["item_index", "timestamp"]).to_pydict() == {
        name: by_jobs[name] for name in ("item_index", "timestamp")
    }


@pytest.mark.spark
def test_items_without_ingest_are_numbered_alike(tmp_path: Path, spark: SparkSession) -> None:
    settings = make_settings(tmp_path)
    write_items(spark, settings, 50)
    items = Lake.of(settings).read_pandas("items", DATE)
    assert items["item_index"].tolist() == list(range(50)) and items["item_id"].is_monotonic_increasing
    assert items["num_train"].is_monotonic_decreasing
