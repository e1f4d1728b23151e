"""`make run` under the real Airflow: a first day, and a day of poisoned data.

The first day is the one that all tests share (`tests/whole_stack.py`). A second stack in the same home runs the other one.
The folder `operations` tests the same day again, and a second day.
"""

import datetime as dt
import json
import shutil
import sys
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
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.serving.store import ServingStore
from tests.tutorials import blocks, follow, serving, shell
from tests.whole_stack import CONF, DAY, SPARK_MASTER, FinishedDay, Kept, kept, reused, step_records

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.mlflow, pytest.mark.slow]

POISONED_DAY = DAY + dt.timedelta(days=1)


@dataclass(frozen=True)
class Day:
    """One run, and the state of the home after it."""

    result: RunResult
    kept: Kept
    run_dir: Path

    def read(self, name: str) -> Any:
        return json.loads((self.run_dir / name).read_text())


@pytest.fixture(scope="module")
def stack(finished_day: FinishedDay) -> Iterator[LocalStack]:
    finished_day.restore()
    with LocalStack(finished_day.home, spark_master=SPARK_MASTER, say=lambda text: None) as running:
        yield running
    assert stack_processes(finished_day.home) == []


def _run(stack: LocalStack, date: dt.date, conf: dict[str, Any]) -> Day:
    result = stack.run(date, conf)
    return Day(result, kept(PipelineSettings(home=stack.home, date=date)), stack.home / "runs" / date.isoformat())


@pytest.fixture(scope="module")
def poisoned(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Day:
    folder = tmp_path_factory.mktemp("poisoned") / "shop"
    shutil.copytree(stack.home / "source" / f"date={DAY}", folder)
    path = folder / "interactions.parquet"
    table = pq.read_table(path)
    items = pc.binary_join_element_wise("ghost", table["item_id"].cast(pa.string()), "-")
    if path.is_dir():
        shutil.rmtree(path)
    table = table.set_column(table.schema.get_field_index("item_id"), "item_id", items)
    # A day later, so that the date has events and only the items are wrong.
    later = pc.add(table["timestamp"], 86_400)
    pq.write_table(table.set_column(table.schema.get_field_index("timestamp"), "timestamp", later), path)
    return _run(stack, POISONED_DAY, CONF | {"data.source": str(folder)})


def test_first_day_runs_every_step_and_makes_a_champion(finished_day: FinishedDay) -> None:
    records = step_records(finished_day.run_dir)
    snapshot = json.loads((Path(__file__).parent / "dags" / "graph_snapshot.json").read_text())
    steps = {task.rsplit(".", 1)[-1] for task in snapshot} - {"review"}  # which policy 'auto' skips
    assert {name: record["state"] for name, record in records.items()} == dict.fromkeys(steps, "success")
    assert reused(finished_day.run_dir) == set()
    assert finished_day.kept.versions == ("1",)
    assert finished_day.kept.champion == "1"
    metrics = finished_day.read("metrics.json")
    assert metrics["incumbent_version"] is None
    assert set(metrics["models"]) >= {"challenger", "baseline"}
    assert (finished_day.untouched / "reports" / DAY.isoformat() / "index.html").stat().st_size > 1000


def test_summary_can_be_read_at_a_glance(finished_day: FinishedDay) -> None:
    from jobs.report.summary import format_summary

    text = format_summary(finished_day.read("summary.json"))
    assert "champion" in text.lower() and "recall" in text.lower()
    assert len(text.splitlines()) < 80
    assert text in finished_day.output


def test_poisoned_data_stops_at_a_gate_and_leaves_the_champion(
    stack: LocalStack, finished_day: FinishedDay, poisoned: Day
) -> None:
    assert not poisoned.result.success
    (failure,) = poisoned.result.failures
    assert failure.bad_data, failure
    assert failure.step == "gate_raw", failure
    assert "items of the catalogue" in failure.message and "Remedy" in failure.message
    tasks = {task["task_id"]: task for task in stack.client.task_instances(poisoned.result.run_id)}
    assert [task["try_number"] for task in tasks.values() if task["state"] == "failed"] == [1]  # bad data is not retried
    assert tasks["registry.promote"]["state"] == "upstream_failed"
    assert (poisoned.kept.versions, poisoned.kept.champion) == (finished_day.kept.versions, finished_day.kept.champion)
    assert not [name for name in poisoned.kept.tables if name.endswith(str(POISONED_DAY))]


def test_a_date_that_failed_or_was_stopped_starts_again(stack: LocalStack) -> None:
    date, conf = POISONED_DAY + dt.timedelta(days=2), {"data.source": "/nowhere/at/all"}
    for times in (1, 2):
        result = stack.run(date, conf)
        assert _tries(stack, result) == times and result.failures[0].step == "prepare"
    stack.client.clear(result.run_id)
    stack.client.fail(result.run_id)
    assert _tries(stack, stack.run(date, conf)) > 2
    assert _tries(stack, stack.run(date, conf | {"training.epochs": 2})) == 1  # another run in its place


def _tries(stack: LocalStack, result: RunResult) -> int:
    (task,) = [task for task in stack.client.task_instances(result.run_id) if task["state"] == "failed"]
    return int(task["try_number"])


def test_airflow_refuses_a_conf_that_the_form_refuses(stack: LocalStack) -> None:
    from infra.local.client import ApiError

    with pytest.raises(ApiError, match=r"training\.epochs"):
        stack.run(POISONED_DAY + dt.timedelta(days=1), {"training.epochs": 0})


def test_the_tutorial_of_the_first_day_can_be_followed(
    stack: LocalStack, poisoned: Day, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in the home of these runs. The finished day was its first command, and has put the champion in force."""
    assert CONF["gate.allow_below_baseline"] is True
    assert blocks("first-day.md")[0].text == f'make run DATE={DAY} SET="gate.allow_below_baseline=true"\n'
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "embedded").symlink_to(stack.home)
    monkeypatch.chdir(tmp_path)
    follow("first-day.md", {"here"}, tmp_path)


def test_make_serve_answers_from_what_the_run_has_left(finished_day: FinishedDay, tmp_path: Path) -> None:
    """The commands of docs/serving.md, with ids of the shop, and nothing done between the run and them."""
    shutil.copytree(finished_day.untouched / "serving", tmp_path / "var" / "embedded" / "serving")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    settings = PipelineSettings(home=finished_day.untouched)
    items = Lake.of(settings).read("items", DAY, ["item_id"])["item_id"].to_pylist()
    (text,) = (block.text for block in blocks("../serving.md") if block.kind == "http")
    for number, item in (("17", items[0]), ("4", items[1])):
        text = text.replace(f'"item-{number}"', json.dumps(item))
    with serving(tmp_path) as port:
        said = shell(text.replace("8085", str(port)), tmp_path)
    recommended, end = json.JSONDecoder().raw_decode(said)
    assert [len(answer["item_id"]) for answer in recommended["answers"]] == [5, 5]
    assert {answer["bundle"] for answer in recommended["answers"]} == {ServingStore.of(settings).current()}
    assert len(json.loads(said[end:])["answers"][0]["item_id"]) == 5
