"""A search from the tables to the proposal: real trials, MLflow, a kill, a budget, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import pytest
from training_tables import write_training_tables

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.training import epochs, train
from jobs.tuning import search
from jobs.tuning.study import Asked, Study

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]


@pytest.fixture
def prepared(settings: PipelineSettings, home: Path) -> PipelineSettings:
    """Tables, and settings of today that are far from good, so that others are better."""
    write_training_tables(settings)
    poor = settings.training.model_copy(update={"learning_rate": 1e-5, "epochs": 2, "id_dropout": 0.9, "start_ids": "random"})
    keep = settings.tuning.model_copy(update={"trials": 4, "keep": "training.embedding_dim, training.order, training.epochs"})
    return settings.model_copy(update={"training": poor, "tuning": keep})


def proposal(settings: PipelineSettings) -> dict[str, Any]:
    return json.loads((settings.home / "tuning" / settings.ds / "proposal.json").read_text())


def test_it_proposes_what_is_better_on_validation_and_looks_at_nothing_else(
    prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, splits = epochs.evaluate, set()

    def noted(model: Any, log: Any, split: str, **further: Any) -> Any:
        splits.add(split)
        return real(model, log, split, **further)

    monkeypatch.setattr(epochs, "evaluate", noted)
    summary, found = search.run(prepared), proposal(prepared)
    assert splits == {"validation"}
    assert found["today"]["trial"] == 0 and found["best"]["recall"] > found["today"]["recall"]
    assert found["metric"] == "validation_recall_12" and found["users"] == 90
    assert found["headline"].startswith("Better than today's settings") and not found["difference"]["by_chance"]
    assert found["cost"] > 0
    assert found["difference"]["mean"] == pytest.approx(found["best"]["recall"] - found["today"]["recall"])
    assert summary["changes"] == found["changes"] and found["changes"]["training.learning_rate"][0] == 1e-5
    assert set(found["left"]) == {"training.embedding_dim", "training.order", "training.epochs"}
    assert not found["left"].keys() & found["changes"].keys()
    folder = prepared.home / "tuning" / prepared.ds
    assert not list((folder / "checkpoints").iterdir()) and not (prepared.home / "checkpoints").exists()
    runs = mlflow.search_runs(experiment_names=["esans-daily-retraining-tuning"], output_format="list")
    assert {run.data.tags["esans.trial_state"] for run in runs} <= {"finished", "pruned"} and len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    today = next(run for run in runs if run.data.tags["esans.trial"] == "0")
    assert today.data.params["training.learning_rate"] == "1e-05"
    assert len(mlflow.MlflowClient().get_metric_history(today.info.run_id, found["metric"])) == 2

    monkeypatch.setattr(epochs, "train_epoch", None)  # a finished search has nothing left to run
    assert search.run(prepared) == summary and proposal(prepared) == found

    monkeypatch.undo()
    trained = train.run(prepared, "challenger")  # what training itself measures with today's settings
    assert trained["validation_recall_12"] == found["today"]["recall"]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.sources = "", list[str]()

    def handle_data(self, data: str) -> None:
        self.words += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [str(value) for name, value in attrs if name in ("src", "href")]


def test_the_pages_show_every_trial_and_need_nothing_from_elsewhere(prepared: PipelineSettings) -> None:
    search.run(prepared)
    found, folder = proposal(prepared), prepared.home / "tuning" / prepared.ds
    reader = _Reader()
    reader.feed((folder / "index.html").read_text())
    assert found["headline"] in reader.words and "The hold-out was not looked at." in reader.words
    for name, (old, new) in found["changes"].items():
        assert f"{name}{old}{new}" in "".join(reader.words.split())
    assert len(reader.sources) == 2 and all(source.startswith("data:image/png;base64,") for source in reader.sources)
    markdown = (folder / "review.md").read_text()
    assert found["headline"] in markdown and found["proposal"] in markdown and "within 24 h they are rejected" in markdown


def test_a_search_without_time_stops_between_epochs_and_the_next_one_goes_on_there(
    prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    real = epochs.train_epoch

    def counted(*args: Any, seed: int, **further: Any) -> float:
        trained.append(seed)
        return real(*args, seed=seed, **further)

    monkeypatch.setattr(epochs, "train_epoch", counted)
    monkeypatch.setattr(search.Clock, "is_over", property(lambda clock: len(trained) % 2 == 1))
    summary = search.run(prepared)
    assert summary["headline"].startswith("No proposal yet: today's settings were not trained to their end")
    assert len(trained) == 1 and proposal(prepared)["today"] is None and proposal(prepared)["changes"] == {}
    unfinished = proposal(prepared)["unfinished"]
    assert unfinished.startswith("Trial 0 was stopped at a recall of 0.") and "another search" in unfinished.lower()
    assert unfinished in (prepared.home / "tuning" / prepared.ds / "index.html").read_text()
    monkeypatch.setattr(search.Clock, "is_over", property(lambda clock: len(trained) == 2))
    monkeypatch.setattr(search.Study, "ask", _once(search.Study.ask))
    assert search.run(prepared)["headline"].startswith("Keep today's settings: no other trial was finished")
    assert len(trained) == len(set(trained)) == 2  # no epoch was trained twice
    assert proposal(prepared)["unfinished"] == "" and proposal(prepared)["counts"] == {"finished": 1}


def test_a_trial_that_would_take_too_long_is_given_up_after_its_first_epoch(
    prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    search.run(prepared.model_copy(update={"tuning": prepared.tuning.model_copy(update={"trials": 1})}))
    trained: list[int] = []
    real = epochs.train_epoch
    monkeypatch.setattr(epochs, "train_epoch", lambda *args, **further: trained.append(1) or real(*args, **further))
    monkeypatch.setattr(search, "_longest", lambda study: 0.001)
    assert search.run(prepared)["counts"] == {"finished": 1, "pruned": 3}
    assert len(trained) == 3
    assert all("tuning.max_cost allows" in row["why"] for row in proposal(prepared)["trials"][1:])


def test_the_longest_time_follows_from_todays(prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Study] = []
    real = search._longest
    monkeypatch.setattr(search, "_longest", lambda study: seen.append(study) or real(study))
    search.run(prepared.model_copy(update={"tuning": prepared.tuning.model_copy(update={"trials": 1})}))
    today = proposal(prepared)["trials"][0]
    assert today["seconds"] > 0 and real(seen[0]) == 4 * today["seconds"]
    assert proposal(prepared)["cost"] is None


def _once(ask: Any) -> Any:
    asked: list[Asked] = []

    def first(self: Study, most: int) -> Asked | None:
        asked.append(ask(self, most))
        return asked[-1] if len(asked) == 1 else None

    return first


def test_a_killed_search_goes_on_and_runs_no_finished_trial_again(prepared: PipelineSettings) -> None:
    """SIGKILL of a real command within its second trial or later, then the same command again."""
    frozen = prepared.home / "settings.json"
    frozen.write_text(prepared.model_dump_json())
    command = [sys.executable, "-m", "jobs.tuning", "--settings", str(frozen)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    recalls = prepared.home / "tuning" / prepared.ds / "recalls"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    while process.poll() is None and not list(recalls.glob("*/*.npy")):
        time.sleep(0.005)
    process.kill()
    message = process.communicate()[1]
    assert process.returncode == -signal.SIGKILL, message
    first = {path: path.stat().st_mtime_ns for path in recalls.glob("*/*.npy")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr
    assert first and {path: path.stat().st_mtime_ns for path in first} == first
    record = json.loads((prepared.home / "tuning" / prepared.ds / "steps" / "tuning.json").read_text())
    assert record["state"] == "success" and record["summary"]["headline"] == proposal(prepared)["headline"]
    assert sum(record["summary"]["counts"].values()) == 4
    assert not list((prepared.home / "runs").glob("????-??-??"))  # the records of a date's retraining stay as they are


def test_missing_tables_are_named_with_what_to_do(settings: PipelineSettings, home: Path) -> None:
    with pytest.raises(
        DataError, match=r"no table 'items' is published for 2026-01-28\. Remedy: first run the job that writes"
    ):
        search.run(settings)


def test_without_a_user_to_validate_on_there_is_nothing_to_compare(prepared: PipelineSettings) -> None:
    lake = Lake.of(prepared)
    table = lake.read_pandas("sequences", prepared.date)
    table["num_train"] += table["num_validation"]
    table["num_validation"] *= 0
    with lake.write("sequences", prepared) as pending:
        pending.path.mkdir()
        table.to_parquet(pending.path / "part-0.parquet", index=False)
    with pytest.raises(DataError, match="so settings cannot be compared"):
        search.run(prepared)


def test_a_trial_that_cannot_be_trained_is_left_out_and_today_that_cannot_ends_the_search(
    prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = search.train_trial

    def refusing(*args: Any, number: int, **further: Any) -> Any:
        if number in refused:
            raise DataError("too few events for a batch.", remedy="bring more.")
        return real(*args, number=number, **further)

    monkeypatch.setattr(search, "train_trial", refusing)
    refused = {1, 2}
    assert search.run(prepared)["counts"] == {"finished": 2, "refused": 2}
    assert "too few events for a batch." in (prepared.home / "tuning" / prepared.ds / "index.html").read_text()
    refused = {0}
    other = prepared.model_copy(update={"tuning": prepared.tuning.model_copy(update={"seed": 1})})
    with pytest.raises(DataError, match="too few events"):
        search.run(other)
