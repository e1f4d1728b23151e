"""Training as a job: it learns, it resumes where it was killed, and a rerun changes nothing."""

import json
import shutil
from pathlib import Path
from typing import get_args

import mlflow
import pytest
import torch
from training_tables import write_training_tables

from esans_core.negatives import METHODS
from jobs import train
from jobs.errors import DataError
from jobs.lake import Lake
from jobs.model_store import load_towers
from jobs.settings import PipelineSettings, SamplingMethod
from jobs.training_data import CLUSTER_INPUTS, INPUTS, load_training_data

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
        assert summary["validation_recall_50"] > 0.6  # 50 of 120 items by chance give 0.42
        assert summary["method"] == ("uniform" if role == "baseline" else "esans")
        inputs = {*INPUTS, *(CLUSTER_INPUTS if role == "challenger" else ())}
        run = mlflow.get_run(summary["mlflow_run_id"])
        assert run.data.params["role"] == role and run.data.params["training.epochs"] == "4"
        history = mlflow.MlflowClient().get_metric_history(summary["mlflow_run_id"], "train_loss")
        assert [metric.step for metric in history] == list(range(1, summary["epochs"] + 1))
        assert {dataset.dataset.name for dataset in run.inputs.dataset_inputs} == inputs
        curves = json.loads((Lake.of(prepared).path(role, prepared.date) / "curves.json").read_text())
        assert len(curves["epochs"]) == summary["epochs"]


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


@pytest.mark.parametrize("method", ["esans", "adap_tau", "fairneg", "cross_batch"])
def test_an_interrupted_run_resumes_to_the_same_weights(
    prepared: PipelineSettings, empty_store: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    prepared = with_method(prepared, method)
    train.run(prepared, "challenger")
    whole = weights(prepared)
    again = prepared.model_copy(update={"home": prepared.home.parent / "second"})
    write_training_tables(again)
    (again.home / "mlflow").mkdir()
    shutil.copy(empty_store, again.home / "mlflow" / "mlflow.db")
    real, calls = train.train_epoch, []

    def dies_in_the_third_epoch(*args: object, **kwargs: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(train, "train_epoch", dies_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        train.run(again, "challenger")
    assert not Lake.of(again).exists("challenger", again.date)
    summary = train.run(again, "challenger")
    assert len(calls) == 3 + (summary["epochs"] - 2)
    for name, value in weights(again).items():
        assert torch.equal(value, whole[name]), name
    assert len(mlflow.MlflowClient().get_metric_history(summary["mlflow_run_id"], "train_loss")) == summary["epochs"]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains(prepared: PipelineSettings, method: str) -> None:
    summary = train.run(with_method(prepared, method), "challenger")
    assert summary["method"] == method and summary["validation_recall_50"] > 0.4


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


def test_a_gpu_that_is_not_there_is_refused() -> None:
    assert train.resolve_device("cpu") == torch.device("cpu")
    assert train.resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(DataError, match=r"training\.device is 'cuda:7'"):
        train.resolve_device("cuda:7")


def test_content_is_nan_where_a_view_is_missing(prepared: PipelineSettings) -> None:
    data = load_training_data(prepared)
    assert data.content.shape == (120, 18)
    assert data.content[3, :10].isnan().all() and not data.content[3, 10:].isnan().any()
    assert data.encoders == {"visual": "visual:1", "text": "text:1"}
