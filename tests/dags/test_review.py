"""The review steps: when they ask, what they show, and what they make of an answer or of none."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.airflow

WHEN = datetime(2026, 1, 29, 8, 30, tzinfo=UTC)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "2026-01-28"
    (folder / "steps").mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"registry": {"review_hours": 1.5}}))
    return folder


def _task(run_dir: Path) -> Any:
    from dags.review import FORM, ReviewOperator

    record = str(run_dir / "steps" / "review.json")
    return ReviewOperator(task_id="review", arguments=["--settings", "unused"], record=record, params=FORM)


def _event(option: str, *, user: dict[str, str] | None, reason: str = "") -> dict[str, Any]:
    return {
        "chosen_options": [option],
        "params_input": {"reason": reason},
        "responded_at": WHEN,
        "responded_by_user": user,
        "timedout": user is None,
    }


@pytest.mark.parametrize("verdict", [None, {"passed": True}, {"passed": True, "needs_review": False}])
def test_it_is_skipped_where_there_is_nothing_to_decide(run_dir: Path, verdict: dict[str, Any] | None) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    if verdict is not None:
        (run_dir / "verdict.json").write_text(json.dumps(verdict))
    with pytest.raises(AirflowSkipException):
        _task(run_dir).execute({})


def test_it_shows_the_page_and_waits_as_long_as_the_run_says(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.standard.operators import hitl
    from airflow.sdk.exceptions import TaskAwaitingInput

    from dags import operators

    (run_dir / "verdict.json").write_text(json.dumps({"needs_review": True}))
    (run_dir / "review.json").write_text(json.dumps({"decision": "approved"}))
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    page = f"import pathlib\npathlib.Path({str(run_dir / 'review.md')!r}).write_text('# Metrics {{{{ ds }}}}')\n"
    (tmp_path / "jobs" / "review_page.py").write_text(page)
    monkeypatch.setattr(operators, "REPOSITORY", tmp_path)
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **about: asked.append(about))  # the row in Airflow's database
    monkeypatch.delenv("AIRFLOW_CONN_ESANS_ALERTS", raising=False)
    with pytest.raises(TaskAwaitingInput) as waiting:
        _task(run_dir).execute({"task_instance": SimpleNamespace(id="1", task_id="review")})
    assert asked[0]["body"] == "# Metrics {{ ds }}"
    assert asked[0]["options"] == ["Approve", "Reject"] and asked[0]["defaults"] == ["Reject"]
    assert list(asked[0]["params"]) == ["reason"]
    assert waiting.value.timeout.total_seconds() == 1.5 * 3600
    assert not (run_dir / "review.json").exists()  # an answer to an earlier verdict is no answer to this one


@pytest.mark.parametrize(("option", "decision"), [("Approve", "approved"), ("Reject", "rejected")])
def test_an_answer_is_kept_with_who_when_and_why(run_dir: Path, option: str, decision: str) -> None:
    _task(run_dir).execute_complete({}, _event(option, user={"id": "7", "name": "ada"}, reason="tail recall\n is up"))
    assert json.loads((run_dir / "review.json").read_text()) == {
        "decision": decision,
        "by": "ada",
        "at": "2026-01-29T08:30:00+00:00",
        "reason": "tail recall is up",
        "timed_out": False,
    }


@pytest.mark.parametrize("option", ["Reject", "Approve"])
def test_silence_rejects(run_dir: Path, option: str) -> None:
    _task(run_dir).execute_complete({}, _event(option, user=None))
    record = json.loads((run_dir / "review.json").read_text())
    assert (record["decision"], record["by"], record["timed_out"]) == ("rejected", "", True)


def _proposal_task(folder: Path) -> Any:
    from dags.review import FORM, ProposalOperator

    return ProposalOperator(task_id="review", record=str(folder / "steps" / "review.json"), params=FORM)


@pytest.mark.parametrize("found", [None, {"changes": {}, "headline": "Keep today's settings: none was better"}])
def test_nobody_is_asked_where_nothing_is_proposed(run_dir: Path, found: dict[str, Any] | None) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    if found is not None:
        (run_dir / "proposal.json").write_text(json.dumps(found))
    with pytest.raises(AirflowSkipException, match="none was better" if found else "no proposal"):
        _proposal_task(run_dir).execute({})


def test_a_proposal_is_shown_and_the_answer_is_about_what_was_shown(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.standard.operators import hitl
    from airflow.sdk.exceptions import AirflowSkipException, TaskAwaitingInput

    changes = {"training.epochs": [10, 16]}
    (run_dir / "proposal.json").write_text(json.dumps({"changes": changes, "proposal": "0a1b2c3d4e5f"}))
    (run_dir / "review.md").write_text("**Better than today's settings**")
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(hitl, "upsert_hitl_detail", lambda **about: asked.append(about))  # the row in Airflow's database
    monkeypatch.delenv("AIRFLOW_CONN_ESANS_ALERTS", raising=False)
    with pytest.raises(TaskAwaitingInput) as waiting:
        _proposal_task(run_dir).execute({"task_instance": SimpleNamespace(id="1", task_id="review")})
    assert asked[0]["body"] == "**Better than today's settings**" and asked[0]["defaults"] == ["Reject"]
    assert waiting.value.timeout.total_seconds() == 1.5 * 3600
    (run_dir / "proposal.json").write_text(json.dumps({"changes": changes, "proposal": "ffffffffffff"}))  # another search ended
    ann = {"id": "7", "name": "ann"}
    answer = _proposal_task(run_dir).execute_complete({}, _event("Approve", user=ann, reason="2 % more"))
    assert (answer["by"], answer["reason"], answer["proposal"]) == ("ann", "2 % more", "0a1b2c3d4e5f")
    assert _proposal_task(run_dir).execute_complete({}, _event("Approve", user=ann))["reason"] == "no reason was given"
    for option, user, said in (
        ("Reject", ann, "rejected by ann: too little"),
        ("Approve", None, "rejected: nobody answered in time"),
    ):
        with pytest.raises(AirflowSkipException, match=said):
            _proposal_task(run_dir).execute_complete({}, _event(option, user=user, reason="too little"))
        assert json.loads((run_dir / "review.json").read_text())["decision"] == "rejected"


def test_links_lead_to_mlflow_once_there_is_something(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import links

    task = _task(run_dir)
    monkeypatch.setenv("ESANS_MLFLOW_UI", "http://127.0.0.1:5000/")
    assert links.VERSION.get_link(task, ti_key=None) == ""  # type: ignore[arg-type]
    (run_dir / "settings.json").write_text(json.dumps({"registry": {"model_name": "esans retrieval"}}))
    trained = {"summary": {"mlflow_run_id": "abc", "mlflow_experiment_id": "1"}}
    (run_dir / "steps" / "train_challenger.json").write_text(json.dumps(trained))
    (run_dir / "steps" / "register.json").write_text(json.dumps({"summary": {"version": "3"}}))
    found = {link.name: link.get_link(task, ti_key=None) for link in (links.RUN, links.VERSION, links.GATE_REPORT)}  # type: ignore[arg-type]
    assert found == {
        "MLflow run": "http://127.0.0.1:5000/#/experiments/1/runs/abc",
        "Model version": "http://127.0.0.1:5000/#/models/esans%20retrieval/versions/3",
        "Gate report": "http://127.0.0.1:5000/#/experiments/1/runs/abc/artifacts/gate_report",
    }
    monkeypatch.delenv("ESANS_MLFLOW_UI")
    assert links.RUN.get_link(task, ti_key=None) == ""  # type: ignore[arg-type]
