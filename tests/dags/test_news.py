"""A run of features that made nothing new says so, and the events of its assets do too."""

import json
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.airflow
WHY = "nothing new: all that decides the result is as at this step's last success"


def write_record(folder: Path, step: str, *, reused: bool = False, new: bool | None = None) -> None:
    """A record as `jobs.step.runtime` writes it; the table has the name of the step."""
    made = [] if new is None else [{"table": step, "date": "2026-01-28", "rows": 200, "new": new}]
    record = {"summary": {"encoded": 3}, "reused": reused, "why": WHY if reused else "it ran, because", "writes": made}
    (folder / f"{step}.json").write_text(json.dumps(record))


@pytest.fixture
def folder(tmp_path: Path, dags: dict[str, Any]) -> Path:
    """The records of a run whose pictures alone are new, and whose gate ran."""
    for step, new in (("visual_features", True), ("text_features", False), ("behaviour_features", False)):
        write_record(tmp_path, step, reused=step == "text_features", new=new)
    write_record(tmp_path, "gate_features")
    return tmp_path


def last_step(folder: Path, dags: dict[str, Any]) -> Any:
    from dags.news import WhatIsNewOperator

    task = dags["esans_features"].get_task("what_is_new")
    assert task.upstream_task_ids == {"features.gate_features"} and task.record.endswith("/steps/gate_features.json")
    return WhatIsNewOperator(task_id="what_is_new", record=str(folder / "gate_features.json"), steps=task.steps)


def test_the_last_step_names_what_is_new(folder: Path, dags: dict[str, Any]) -> None:
    assert last_step(folder, dags).execute({}) == ["visual_features"]


def test_it_is_skipped_if_the_gate_kept_its_verdict(folder: Path, dags: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    write_record(folder, "gate_features", reused=True)
    write_record(folder, "visual_features", new=False)
    with pytest.raises(AirflowSkipException, match="nothing new"):
        last_step(folder, dags).execute({})


def test_a_run_after_a_failed_one_is_not_skipped_though_its_own_steps_made_nothing(folder: Path, dags: dict[str, Any]) -> None:
    write_record(folder, "visual_features", new=False)
    assert last_step(folder, dags).execute({}) == []


def test_the_events_of_assets_say_what_is_new(folder: Path, dags: dict[str, Any]) -> None:
    from dags.news import tell_events

    features = {task.task_id: task for task in dags["esans_features"].tasks}
    events: dict[Any, Any] = defaultdict(SimpleNamespace)
    for step in ("visual_features", "text_features"):
        (asset,) = features[f"features.{step}"].outlets
        operator = SimpleNamespace(record=str(folder / f"{step}.json"), outlets=[asset])
        tell_events(operator, {"outlet_events": events})
    found = {asset.name: event.extra for asset, event in events.items()}
    assert found["esans/lake/visual_features"] == {
        "encoded": 3,
        "reused": False,
        "why": "it ran, because",
        "rows": 200,
        "new": True,
    }
    text = found["esans/lake/text_features"]
    assert (text["new"], text["reused"], text["why"]) == (False, True, WHY)
