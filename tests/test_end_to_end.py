"""`make run` under the real Airflow: a first day, the same day again, and a day of poisoned data.

One stack serves all three runs. Each fixture is one run and needs the one before it, so the order is the fixtures' own. What a
second day does is in `test_operations.py`.
"""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from infra.local.processes import stack_processes
from infra.local.progress import RunResult
from infra.local.stack import LocalStack
from jobs.lake import Lake
from jobs.settings import PipelineSettings
from tests.tutorials import follow

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.mlflow, pytest.mark.slow]

DAY = dt.date(2026, 1, 28)
POISONED_DAY = DAY + dt.timedelta(days=1)

# A shop so small that its recall says little: the floors are open, and the comparison of models stays real.
CONF: dict[str, Any] = {
    "shop.num_items": 200,
    "shop.num_users": 200,
    "shop.num_days": 14,
    "ingest.min_holdout_users": 20,
    "features.text_dim": 16,
    "features.behaviour_dim": 16,
    "clusters.dim": 16,
    "clusters.alignment_epochs": 2,
    "clusters.num_primary": 6,
    "clusters.num_secondary": 4,
    "training.embedding_dim": 16,
    "training.num_heads": 2,
    "training.batch_size": 256,
    "training.epochs": 1,
    "sampling.num_pool": 64,
    "gate.bootstrap_samples": 100,
    "gate.max_relative_loss": 1.0,
    "gate.allow_below_baseline": True,
    "gate.min_recall": 0.0,
    "gate.min_head_recall": 0.0,
    "gate.min_coverage": 0.0,
    "gate.max_cluster_share": 1.0,
}


@dataclass(frozen=True)
class Kept:
    """What must not change when nothing should: digests of the lake, versions and alias of the registry."""

    tables: dict[str, str]
    versions: tuple[str, ...]
    champion: str | None


@dataclass(frozen=True)
class Day:
    """One run and what was kept after it."""

    result: RunResult
    kept: Kept
    run_dir: Path

    def read(self, name: str) -> Any:
        return json.loads((self.run_dir / name).read_text())


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    home = tmp_path_factory.mktemp("end-to-end")
    with LocalStack(home, spark_master="local[2]") as running:
        yield running
    assert stack_processes(home) == []


def _run(stack: LocalStack, date: dt.date, conf: dict[str, Any]) -> Day:
    result = stack.run(date, conf)
    return Day(result, kept(PipelineSettings(home=stack.home, date=date)), stack.home / "runs" / date.isoformat())


def kept(settings: PipelineSettings) -> Kept:
    """What a home holds now."""
    from mlflow import MlflowClient

    lake = Lake.of(settings)
    tables = {
        f"{folder.name}/{date}": lake.manifest(folder.name, date)["digest"]
        for folder in sorted(lake.root.iterdir())
        for date in lake.dates(folder.name)
    }
    client, name = MlflowClient(settings.tracking_uri, settings.tracking_uri), settings.registry.model_name
    versions = tuple(sorted(str(version.version) for version in client.search_model_versions(f"name='{name}'")))
    champion = client.get_registered_model(name).aliases.get("champion")
    return Kept(tables, versions, None if champion is None else str(champion))


@pytest.fixture(scope="module")
def first(stack: LocalStack) -> Day:
    return _run(stack, DAY, CONF)


@pytest.fixture(scope="module")
def again(stack: LocalStack, first: Day) -> Day:
    return _run(stack, DAY, CONF)


@pytest.fixture(scope="module")
def poisoned(stack: LocalStack, again: Day, tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = tmp_path_factory.mktemp("poisoned") / "shop"
    shutil.copytree(stack.home / "source" / f"date={DAY}", folder)
    path = folder / "interactions.parquet"
    table = pq.read_table(path)
    items = pc.binary_join_element_wise("ghost", table["item_id"].cast(pa.string()), "-")
    if path.is_dir():
        shutil.rmtree(path)
    table = table.set_column(table.schema.get_field_index("item_id"), "item_id", items)
    # A day later, so that the date has events and the items alone are wrong.
    later = pc.add(table["timestamp"], 86_400)
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", later), path)
    return _run(stack, POISONED_DAY, CONF | {"data.source": str(folder)})


def _reused(day: Day) -> set[str]:
    records = [json.loads(path.read_text()) for path in (day.run_dir / "steps").glob("*.json")]
    return {record["step"] for record in records if record["reused"]}


def test_first_day_runs_every_step_and_makes_a_champion(first: Day) -> None:
    assert first.result.success, first.result.failures
    states = {path.stem: json.loads(path.read_text())["state"] for path in (first.run_dir / "steps").glob("*.json")}
    snapshot = json.loads((Path(__file__).parent / "dags" / "graph_snapshot.json").read_text())
    assert states == {task.rsplit(".", 1)[-1]: "success" for task in snapshot if task != "registry.review"}  # policy 'auto'
    assert _reused(first) == set()
    assert first.kept.versions == ("1",)
    assert first.kept.champion == "1"
    assert first.read("metrics.json")["incumbent_version"] is None
    assert (first.run_dir.parents[1] / "reports" / DAY.isoformat() / "index.html").stat().st_size > 1000
    assert set(first.read("metrics.json")["models"]) >= {"challenger", "baseline"}


def test_summary_can_be_read_at_a_glance(first: Day) -> None:
    from jobs.report.summary import format_summary

    text = format_summary(first.read("summary.json"))
    assert "champion" in text.lower() and "recall" in text.lower()
    assert len(text.splitlines()) < 80


def test_the_same_day_again_changes_nothing(first: Day, again: Day) -> None:
    assert again.result.success, again.result.failures
    assert again.kept == first.kept
    assert _reused(again) == {
        "gate_raw",
        "ingest",
        "text_features",
        "behaviour_features",
        "gate_features",
        "fit_codebooks",
        "assign_clusters",
        "gate_clusters",
        "build_training_set",
        "gate_training_set",
        "gate_model",
        "candidates",
    }
    assert again.read("settings.json") == first.read("settings.json")


def test_poisoned_data_stops_at_a_gate_and_leaves_the_champion(stack: LocalStack, again: Day, poisoned: Day) -> None:
    assert not poisoned.result.success
    (failure,) = poisoned.result.failures
    assert failure.bad_data, failure
    assert failure.step == "gate_raw", failure
    assert "items of the catalogue" in failure.message and "Remedy" in failure.message
    tasks = {task["task_id"]: task for task in stack.client.task_instances(poisoned.result.run_id)}
    assert [task["try_number"] for task in tasks.values() if task["state"] == "failed"] == [1]  # bad data is not retried
    assert tasks["registry.promote"]["state"] == "upstream_failed"
    assert (poisoned.kept.versions, poisoned.kept.champion) == (again.kept.versions, again.kept.champion)
    assert not [name for name in poisoned.kept.tables if name.endswith(str(POISONED_DAY))]


def test_airflow_refuses_a_conf_that_the_form_refuses(stack: LocalStack) -> None:
    from infra.local.client import ApiError

    with pytest.raises(ApiError, match=r"training\.epochs"):
        stack.run(POISONED_DAY + dt.timedelta(days=1), {"training.epochs": 0})


def test_the_tutorial_of_the_first_day_can_be_followed(
    stack: LocalStack, poisoned: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the home of these runs, after all of them: the tutorial publishes a bundle. Its `make run` is what the fixtures do."""
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "embedded").symlink_to(stack.home)
    monkeypatch.chdir(tmp_path)
    follow("first-day.md", {"here"}, tmp_path)
    assert (stack.home / "serving" / "CURRENT").exists()
