"""Training as a job: it learns, it resumes where it was killed, and a rerun changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, get_args

import mlflow
import pytest
import torch
from training_tables import write_training_tables

from esans_core.negatives import METHODS, NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.training import Position, build_optimizers
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings, SamplingMethod
from jobs.base.tracking import client, start_or_resume_run
from jobs.lake.tables import Lake
from jobs.training import epochs as training
from jobs.training import train
from jobs.training.data import CLUSTER_INPUTS, INPUTS, load_training_data
from jobs.training.model_store import load_towers
from tests.agreements import RECORD

pytestmark = pytest.mark.mlflow


@pytest.fixture
def prepared(settings: PipelineSettings, home: Path) -> PipelineSettings:
    write_training_tables(settings)
    changes = {"epochs": 4, "batch_size": 64, "learning_rate": 0.01, "patience": 4}
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})


def weights(settings: PipelineSettings, role: str = "challenger") -> dict[str, torch.Tensor]:
    return load_towers(Lake.of(settings).path(role, settings.date))[0].state_dict()


def test_both_roles_learn_and_are_logged(prepared: PipelineSettings) -> None:
    for role in train.ROLES:
        summary = train.run(prepared, role)
        assert summary["validation_recall_12"] > 0.25  # 12 of 120 items by chance give 0.1
        assert summary["method"] == ("uniform" if role == "baseline" else "esans")
        inputs = {*INPUTS, *(CLUSTER_INPUTS if role == "challenger" else ())}
        run = mlflow.get_run(summary["mlflow_run_id"])
        assert run.data.params["role"] == role and run.data.params["training.epochs"] == "4"
        history = mlflow.MlflowClient().get_metric_history(summary["mlflow_run_id"], "train_loss")
        assert [metric.step for metric in history] == list(range(1, summary["epochs"] + 1))
        assert {dataset.dataset.name for dataset in run.inputs.dataset_inputs} == inputs
        curves = json.loads((Lake.of(prepared).path(role, prepared.date) / "curves.json").read_text())
        assert len(curves["epochs"]) == summary["epochs"]


def test_the_run_in_mlflow_says_which_settings_a_person_agreed_to(prepared: PipelineSettings) -> None:
    agreed = RECORD | {"settings": {"training.epochs": 4, "training.dropout": 0.3}, "otherwise": {"training.dropout": 0.5}}
    write_json(prepared.run_dir / "agreed.json", agreed)
    params = mlflow.get_run(train.run(prepared, "baseline")["mlflow_run_id"]).data.params
    assert params["agreed.settings"] == "training.epochs"
    assert (params["agreed.by"], params["agreed.date"], params["agreed.reason"]) == ("ann", "2026-01-28", "found on validation")


def test_without_a_user_to_validate_on_the_last_epoch_is_kept_and_no_recall_is_made_up(prepared: PipelineSettings) -> None:
    lake = Lake.of(prepared)
    table = lake.read_pandas("sequences", prepared.date)
    table["num_train"] += table["num_validation"]
    table["num_validation"] = table["num_validation"] * 0
    with lake.write("sequences", prepared) as pending:
        pending.path.mkdir()
        table.to_parquet(pending.path / "part-0.parquet", index=False)
    one_epoch_of_patience = prepared.training.model_copy(update={"epochs": 3, "patience": 1})
    summary = train.run(prepared.model_copy(update={"training": one_epoch_of_patience}), "baseline")
    assert summary["validation_recall_12"] is None
    assert summary["epochs"] == summary["best_epoch"] == 3
    curves = json.loads((lake.path("baseline", prepared.date) / "curves.json").read_text())["epochs"]
    assert len(curves) == 3 and all("validation_recall_12" not in epoch for epoch in curves)
    client = mlflow.MlflowClient()
    assert client.get_metric_history(summary["mlflow_run_id"], "validation_recall_12") == []


def test_a_rerun_changes_nothing_and_logs_nothing_twice(prepared: PipelineSettings) -> None:
    first = train.run(prepared, "challenger")
    digest = Lake.of(prepared).manifest("challenger", prepared.date)["digest"]
    second = train.run(prepared, "challenger")
    assert second == first
    assert Lake.of(prepared).manifest("challenger", prepared.date)["digest"] == digest
    history = mlflow.MlflowClient().get_metric_history(first["mlflow_run_id"], "train_loss")
    assert len(history) == first["epochs"]


def with_method(settings: PipelineSettings, method: str) -> PipelineSettings:
    return settings.model_copy(update={"sampling": settings.sampling.model_copy(update={"method": method})})


@pytest.mark.parametrize(
    ("method", "updates"), [("esans", "sparse"), ("adap_tau", "dense"), ("fairneg", "dense"), ("cross_batch", "dense")]
)
def test_an_interrupted_run_resumes_to_the_same_weights(
    prepared: PipelineSettings, empty_store: Path, monkeypatch: pytest.MonkeyPatch, method: str, updates: str
) -> None:
    prepared = with_method(prepared, method)
    prepared = prepared.model_copy(update={"training": prepared.training.model_copy(update={"table_updates": updates})})
    train.run(prepared, "challenger")
    whole = weights(prepared)
    again = prepared.model_copy(update={"home": prepared.home.parent / "second"})
    write_training_tables(again)
    (again.home / "mlflow").mkdir()
    shutil.copy(empty_store, again.home / "mlflow" / "mlflow.db")
    again = again.model_copy(update={"run": again.run.model_copy(update={"checkpoint_minutes": 0.0})})
    real, calls = training.train_epoch, []

    def dies_in_the_third_epoch(*args: object, **kwargs: Any) -> float:
        calls.append(kwargs["position"])

        def after_step(position: Position) -> None:
            save(position)
            if len(calls) == 3 and position.step == 4:
                raise KeyboardInterrupt

        save, kwargs["after_step"] = kwargs["after_step"], after_step
        return real(*args, **kwargs)

    monkeypatch.setattr(training, "train_epoch", dies_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        train.run(again, "challenger")
    assert not Lake.of(again).exists("challenger", again.date)
    summary = train.run(again, "challenger")
    assert (
        len(calls) == 3 + (summary["epochs"] - 2) + summary["best_epoch"] and calls[3] is not None and calls[:3] == [None] * 3
    )
    for name, value in weights(again).items():
        assert torch.equal(value, whole[name]), name
    assert len(mlflow.MlflowClient().get_metric_history(summary["mlflow_run_id"], "train_loss")) == summary["epochs"]


@pytest.mark.slow
def test_a_killed_process_goes_on_with_the_next_batch(prepared: PipelineSettings, empty_store: Path) -> None:
    """SIGKILL within an epoch of a real process, then the same run again."""
    prepared = prepared.model_copy(
        update={
            "training": prepared.training.model_copy(update={"batch_size": 32}),
            "run": prepared.run.model_copy(update={"checkpoint_minutes": 0.0}),
        }
    )
    train.run(prepared, "challenger")
    again = prepared.model_copy(update={"home": prepared.home.parent / "second"})
    write_training_tables(again)
    (again.home / "mlflow").mkdir()
    shutil.copy(empty_store, again.home / "mlflow" / "mlflow.db")
    frozen = again.home / "settings.json"
    frozen.write_text(again.model_dump_json())
    command = [sys.executable, "-m", "jobs.train", "challenger", "--settings", str(frozen)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as here, because the order of sums depends on the number of threads
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=one_thread)
    stands: dict[str, Any] = {"epoch": 0, "step": 0}
    while process.poll() is None and not (stands["epoch"] >= 1 and stands["step"] >= 3):
        found = list(again.home.glob("checkpoints/*/progress.json"))
        stands = json.loads(found[0].read_text()) if found else stands
        time.sleep(0.005)
    process.kill()
    message = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, message
    stands = json.loads(next(again.home.glob("checkpoints/*/progress.json")).read_text())
    assert stands["step"] > 0 and not stands["finished"] and not Lake.of(again).exists("challenger", again.date)
    files = list(again.home.glob("checkpoints/*/epoch-*.safetensors"))
    assert len(files) <= 3, "the latest state, the best epoch, and one that may be half written"
    _the_run_is_ended_by_whatever_comes_next(again)
    summary = train.run(again, "challenger")
    assert client(again).get_run(summary["mlflow_run_id"]).info.status == "FINISHED"
    whole = weights(prepared)
    for name, value in weights(again).items():
        assert torch.equal(value, whole[name]), name
    curves = [Lake.of(each).path("challenger", each.date) / "curves.json" for each in (prepared, again)]
    assert curves[0].read_text() == curves[1].read_text()


def _the_run_is_ended_by_whatever_comes_next(settings: PipelineSettings) -> None:
    """MLflow cannot know that the process is dead; the report of the failed date says so."""
    (run,) = client(settings).search_runs([client(settings).get_experiment_by_name(settings.registry.experiment).experiment_id])
    assert run.info.status == "RUNNING"
    with start_or_resume_run(settings, "another", "another") as alive:
        command = [sys.executable, "-m", "jobs.report_stopped", "--settings", str(settings.home / "settings.json")]
        subprocess.run(command, check=True, capture_output=True)
        assert client(settings).get_run(alive.info.run_id).info.status == "RUNNING", "this process lives"
    ended = client(settings).get_run(run.info.run_id).info
    assert ended.status == "KILLED" and ended.end_time
    assert not list((settings.home / "mlflow" / "writing").glob("*.json"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(prepared: PipelineSettings, method: str) -> None:
    summary = train.run(with_method(prepared, method), "challenger")
    assert summary["method"] == method and summary["validation_recall_12"] > 0.15


def test_sparse_updates_learn_and_are_chosen_for_large_catalogues(
    prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_training_data(prepared)
    assert not train.build_model(prepared, data).item_input.id_embedding.sparse
    monkeypatch.setattr(train, "DENSE_ITEMS", 100)
    model = train.build_model(prepared, data)
    objective = RetrievalObjective(NegativeConfig.for_method("in_batch"), torch.ones(model.num_items), temperature=0.1)
    optimizers = build_optimizers(model, objective, learning_rate=1e-3, weight_decay=0.0)
    assert [type(each).__name__ for each in optimizers] == ["AdamW", "SparseAdam"]
    assert train.run(prepared, "challenger")["validation_recall_12"] > 0.25


def test_the_form_offers_every_method() -> None:
    assert get_args(SamplingMethod) == METHODS


def test_the_training_key_follows_settings_and_data(prepared: PipelineSettings) -> None:
    digests = load_training_data(prepared).digests
    key = train.training_key(prepared, "challenger", digests)
    assert key == train.training_key(prepared, "challenger", digests)
    assert key != train.training_key(prepared, "baseline", digests)
    assert key != train.training_key(prepared, "challenger", digests | {"items": "other"})
    other = prepared.model_copy(update={"training": prepared.training.model_copy(update={"seed": 8})})
    assert key != train.training_key(other, "challenger", digests)
    later = prepared.model_copy(update={"gate": prepared.gate.model_copy(update={"min_recall": 0.5})})
    assert key == train.training_key(later, "challenger", digests), "a setting of a later step trains nothing again"
    assert train.version_key(later, key) != train.version_key(prepared, key), "but it makes another version"


def test_another_version_of_the_same_training_is_logged_whole_and_trains_nothing(
    prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train.run(prepared, "challenger")
    monkeypatch.setattr(training, "train_epoch", None)
    later = prepared.model_copy(update={"gate": prepared.gate.model_copy(update={"min_recall": 0.5})})
    second = train.run(later, "challenger")
    assert second["mlflow_run_id"] != first["mlflow_run_id"]
    assert second | {"mlflow_run_id": first["mlflow_run_id"]} == first
    client, runs = mlflow.MlflowClient(), [mlflow.get_run(summary["mlflow_run_id"]) for summary in (first, second)]
    assert [run.data.params["gate.min_recall"] for run in runs] == ["0.02", "0.5"]
    assert runs[0].data.metrics == runs[1].data.metrics
    logged = [client.get_metric_history(run.info.run_id, "train_loss") for run in runs]
    assert [metric.step for metric in logged[0]] == [metric.step for metric in logged[1]]


def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert train.resolve_device("cpu") == torch.device("cpu")
    assert train.resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(DataError, match=r"training on 'cuda:7'"):
        train.resolve_device("cuda:7")


def test_content_is_nan_where_a_view_is_missing(prepared: PipelineSettings) -> None:
    data = load_training_data(prepared)
    assert data.content.shape == (120, 18)
    assert data.content[3, :10].isnan().all() and not data.content[3, 10:].isnan().any()
    assert data.encoders == {"visual": "visual:1", "text": "text:1"}
