"""Two processes train one model, as a command: its record, its exit status and what it writes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from training_tables import write_training_tables

from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.training import train

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


@pytest.fixture
def prepared(settings: PipelineSettings, home: Path) -> PipelineSettings:
    write_training_tables(settings)
    changes = {"epochs": 2, "batch_size": 63, "learning_rate": 0.01}
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})


def train_in_two(settings: PipelineSettings) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """Run the command of the DAG's task, and return the step's record."""
    frozen = settings.home / "settings.json"
    frozen.write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "jobs.train", "challenger", "--settings", str(frozen), "--training.processes=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done, json.loads((settings.run_dir / "steps" / "train_challenger.json").read_text())


def test_two_processes_train_the_model_of_one(prepared: PipelineSettings) -> None:
    done, record = train_in_two(prepared)
    assert done.returncode == 0, done.stderr[-3000:]
    assert record["state"] == "success" and record["summary"]["processes"] == 2
    folder = Lake.of(prepared).path("challenger", prepared.date)
    curves = json.loads((folder / "curves.json").read_text())["epochs"]
    alone = train.run(prepared, "challenger")
    expected = json.loads((Lake.of(prepared).path("challenger", prepared.date) / "curves.json").read_text())["epochs"]
    for one, other in zip(curves, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert alone["processes"] == 1 and alone["mlflow_run_id"] != record["summary"]["mlflow_run_id"]
    runs = mlflow.search_runs(experiment_names=[prepared.registry.experiment], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(record["summary"]["mlflow_run_id"], "train_loss")
    assert len(runs) == 2 and [metric.step for metric in history] == [1, 2], "the second process reports nothing"


def test_bad_data_in_a_worker_is_bad_data(prepared: PipelineSettings) -> None:
    table = Lake.of(prepared).read_pandas("sequences", prepared.date)
    table["user_index"] = table["user_index"] + 1
    with Lake.of(prepared).write("sequences", prepared) as pending:
        pending.path.mkdir()
        table.to_parquet(pending.path / "part-0.parquet")
    done, record = train_in_two(prepared)
    assert done.returncode == 65, done.stderr[-3000:]
    assert record["state"] == "failed" and "users 0 to 89 expected" in record["message"] and "Remedy" in record["message"]
