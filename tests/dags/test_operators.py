"""Operators over real processes: exit status 65 ends a task for good, anything else takes its retries."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.local.environment import REPOSITORY, stack_environment

pytestmark = pytest.mark.airflow

# A DAG run in one process: Airflow's own task runner, its retry logic and its database, without scheduler and server.
PROBE = """
import json, sys
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, Param

from dags.operators import RETRY_DEFAULTS, PrepareOperator, PythonJobOperator

once_more = RETRY_DEFAULTS | {"retries": 1, "retry_delay": timedelta(seconds=1), "retry_exponential_backoff": False}
about = {"params": {"training.epochs": Param(1)}, "default_args": once_more}
with DAG("probe", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC), **about) as dag:
    PythonJobOperator(task_id="bad_data", job="prepare", arguments=["--training.epochs=0"], record="/none")
    PythonJobOperator(task_id="broken", job="there_is_no_such_job", arguments=[], record="/none")
    PrepareOperator(task_id="bad_conf", job="there_is_no_such_job", arguments=[], record="/none")

if __name__ == "__main__":
    run = dag.test(logical_date=datetime(2026, 1, 28, tzinfo=UTC), run_conf={"training.epochs": 0})
    print("\\nRESULT" + json.dumps({ti.task_id: [str(ti.state), ti.try_number] for ti in run.get_task_instances()}))
"""


@pytest.mark.slow
def test_airflow_retries_a_crash_and_never_bad_data(tmp_path: Path) -> None:
    folder = tmp_path / "dags"
    folder.mkdir()
    (folder / "probe.py").write_text(PROBE)
    environment = stack_environment(tmp_path / "home", port=9) | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    run("-m", "airflow", "db", "migrate")
    result = run(str(folder / "probe.py")).split("RESULT")[-1]
    assert json.loads(result.splitlines()[0]) == {"bad_data": ["failed", 1], "broken": ["failed", 2], "bad_conf": ["failed", 1]}


def _context(run_type: str = "manual") -> Any:
    return {"dag_run": SimpleNamespace(conf={}, run_type=run_type)}


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job that leaves its arguments as a message and ends with the status in its first one; returns its record."""
    from dags import operators

    monkeypatch.setattr(operators, "REPOSITORY", tmp_path)
    record = tmp_path / "records" / "refusing.json"
    record.parent.mkdir()
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "__init__.py").touch()
    (tmp_path / "jobs" / "refusing.py").write_text(
        "import json, pathlib, sys\n"
        f"pathlib.Path({str(record)!r}).write_text(json.dumps({{'message': ' | '.join(sys.argv[1:])}}))\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    return record


def test_message_of_the_step_record_becomes_the_task_error(refusing: Path) -> None:
    from dags import operators

    for status, kind in ((65, operators.BadInputError), (1, operators.StepFailedError)):
        arguments = [str(status), "", "the table; is $(empty)"]
        task = operators.PythonJobOperator(task_id="any", job="refusing", arguments=arguments, record=str(refusing))
        with pytest.raises(kind) as failure:
            task.execute(_context())
        assert str(failure.value) == f"refusing ended with exit status {status}: {status} | the table; is $(empty)"


def test_stale_record_of_an_earlier_try_is_not_quoted(tmp_path: Path) -> None:
    from dags import operators

    record = tmp_path / "gone.json"
    record.write_text(json.dumps({"message": "yesterday's trouble"}))
    task = operators.PythonJobOperator(task_id="gone", job="there_is_no_such_job", arguments=[], record=str(record))
    with pytest.raises(operators.StepFailedError) as failure:
        task.execute(_context())
    assert "yesterday" not in str(failure.value)


def test_a_dag_that_is_only_triggered_skips_the_runs_of_its_schedule(refusing: Path) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    from dags import operators

    about = {"task_id": "prepare", "job": "refusing", "arguments": ["0"], "record": str(refusing)}
    with pytest.raises(AirflowSkipException):
        operators.PrepareOperator(scheduled=False, **about).execute(_context("scheduled"))
    assert not refusing.exists()
    operators.PrepareOperator(scheduled=False, **about).execute(_context("backfill"))
    assert refusing.exists()
    refusing.unlink()
    operators.PrepareOperator(**about).execute(_context("scheduled"))
    assert refusing.exists()


def test_of_a_spark_job_its_own_word_counts_before_that_of_spark_submit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a cluster spark-submit ends with 1 whatever the job ended with; a job that never ran leaves no record."""
    from dags import operators

    record, submit = tmp_path / "records" / "job.json", tmp_path / "bin" / "spark-submit"
    for path in (record, submit):
        path.parent.mkdir()
    submit.write_text('#!/bin/sh\nfor last; do :; done\neval "$last"\n')  # runs the job's last argument
    submit.chmod(0o755)
    monkeypatch.setenv("PATH", f"{submit.parent}:/usr/bin:/bin")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[1]"}')
    told = json.dumps({"message": "no such column", "exit_status": 65})
    for job, kind, text in (
        (f"echo '{told}' > {record}; exit 1", operators.BadInputError, "exit status 65: no such column"),
        ("exit 65", operators.BadInputError, "exit status 65: it refused its settings"),
        (
            "echo 'Error code is: 65.'; exit 3",
            operators.StepFailedError,
            "exit status 3: the process ended with status 3 before it could say why",
        ),
    ):
        record.unlink(missing_ok=True)
        task = operators.SparkJobOperator(task_id="job", job="job", arguments=[job], record=str(record))
        task.conf = {}  # the template of the driver's memory is rendered by Airflow only inside a run
        with pytest.raises(kind, match=text):
            task.execute(_context())


def test_spark_starts_only_if_no_earlier_result_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import operators

    kept, submit, said = tmp_path / "kept.json", tmp_path / "bin" / "spark-submit", tmp_path / "said"
    for folder in (submit.parent, tmp_path / "jobs"):
        folder.mkdir()
    submit.write_text(f"#!/bin/sh\necho spark >> {said}\n")
    submit.chmod(0o755)
    (tmp_path / "jobs" / "__init__.py").touch()
    (tmp_path / "jobs" / "asked.py").write_text(
        f"import sys\nprint(*sys.argv[1:], file=open({str(said)!r}, 'a'))\nsys.exit(int(sys.argv[1]))\n"
    )
    monkeypatch.setattr(operators, "REPOSITORY", tmp_path)
    monkeypatch.setenv("PATH", f"{submit.parent}:/usr/bin:/bin")
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[1]"}')

    def started(status: str) -> list[str]:
        said.unlink(missing_ok=True)
        about = {"task_id": "asked", "job": "asked", "arguments": [status], "record": "/none"}
        task = operators.SparkJobOperator(kept=str(kept), **about)
        task.conf = {}  # the template of the driver's memory is rendered by Airflow only inside a run
        task.execute(_context())
        return said.read_text().splitlines()

    assert started("0") == ["spark"]
    kept.touch()
    assert started("0") == ["0 --only-if-kept"]
    assert started("3") == ["3 --only-if-kept", "spark"]


@pytest.mark.spark
@pytest.mark.slow
def test_spark_submit_hands_the_exit_status_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import operators

    for name, value in stack_environment(tmp_path / "home", port=9, spark_master="local[1]").items():
        if not name.startswith("AIRFLOW_"):
            monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", '{"conn_type": "spark", "host": "local[1]"}')
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "ending.py").write_text("import sys\nsys.exit(int(sys.argv[1]))\n")
    monkeypatch.setattr(operators, "REPOSITORY", tmp_path)
    for status, kind in ((65, operators.BadInputError), (3, operators.StepFailedError)):
        task = operators.SparkJobOperator(task_id="ending", job="ending", arguments=[str(status)], record="/none/ending.json")
        task.conf = {}  # the template of the driver's memory is rendered by Airflow only inside a run
        with pytest.raises(kind, match=f"ending ended with exit status {status}"):
            task.execute(_context())


def test_a_step_that_is_killed_leaves_a_record_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import operators

    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "dying.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setattr(operators, "REPOSITORY", tmp_path)
    record = tmp_path / "steps" / "dying.json"
    task = operators.PythonJobOperator(task_id="dying", job="dying", arguments=[], record=str(record))
    with pytest.raises(operators.StepFailedError, match="before it could say why"):
        task.execute(_context())
    said = json.loads(record.read_text())
    assert (said["step"], said["state"]) == ("dying", "killed") and said["seconds"] > 0


def test_jobs_see_no_airflow_secrets() -> None:
    from dags.operators import job_environment

    secret = {"AIRFLOW__CORE__FERNET_KEY": "key", "AIRFLOW_CONN_ESANS_ALERTS": "https://hooks.example.org/token"}
    seen = job_environment(secret | {"AIRFLOW_HOME": "/a", "ESANS_HOME": "/b"})
    assert seen == {"AIRFLOW_HOME": "/a", "ESANS_HOME": "/b"}


def test_back_off_is_short_first_and_bounded() -> None:
    from dags.operators import RETRY_DEFAULTS

    assert RETRY_DEFAULTS["retry_delay"] < RETRY_DEFAULTS["max_retry_delay"] <= timedelta(minutes=30)


def test_a_step_whose_worker_died_is_recorded_by_the_callback_and_one_that_has_spoken_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowTaskTimeout

    from dags import operators

    monkeypatch.setattr(operators, "HOME", tmp_path)
    renewed: list[Any] = []
    monkeypatch.setattr(operators.JobProcess, "run", lambda *arguments: renewed.append(arguments[1:]))

    def tell(about: Any) -> None:  # as the callbacks of a failed step
        operators.leave_word(about)
        operators.renew_report(about)

    record = tmp_path / "runs" / "2026-01-28" / "steps" / "ingest.json"
    about: Any = {"task": SimpleNamespace(record=str(record))}
    about["ti"] = SimpleNamespace(start_date=datetime.now(UTC) - timedelta(seconds=5), run_id="manual__1")
    tell(about)
    left = json.loads(record.read_text())
    assert (left["step"], left["state"], left["run"], left["exit_status"]) == ("ingest", "killed", "manual__1", -9)
    assert 4 < left["seconds"] < 60 and "worker" in left["message"] and renewed[0][0] == "report_stopped"

    record.write_text("{}")  # what the step said itself
    tell(about)
    assert record.read_text() == "{}" and len(renewed) == 2
    about["exception"], about["task"].execution_timeout = AirflowTaskTimeout("Timeout, PID: 7"), timedelta(hours=2)
    tell(about)  # what a step says while it is stopped is not the cause
    left = json.loads(record.read_text())
    assert left["state"] == "killed" and "longer than its limit of 2:00:00" in left["message"]
    del about["exception"]
    os.utime(record, (0, 0))  # an earlier try said it
    tell(about)
    left = json.loads(record.read_text())
    assert left["state"] == "killed" and "worker" in left["message"]


def test_a_run_that_is_ended_from_outside_leaves_records_of_what_was_at_work_and_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dags import operators

    monkeypatch.setattr(operators, "HOME", tmp_path)
    renewed: list[Path] = []
    monkeypatch.setattr(operators, "renew_pages", renewed.append)
    folder = tmp_path / "runs" / "2026-01-28"
    (folder / "steps").mkdir(parents=True)
    (folder / "steps" / "ingest.json").write_text("{}")  # it had ended by itself
    began = datetime.now(UTC) - timedelta(seconds=60)
    tried = [operators.Attempt(name, began, "r") for name in ("ingest.ingest", "training.train_baseline")]
    waits = operators.Attempt("report", None, "r")
    day = datetime(2026, 1, 28, tzinfo=UTC)
    run = SimpleNamespace(dag_id="esans_daily_retraining", run_id="r", data_interval_start=day, start_date=began)
    context: Any = {"reason": "task_failure", "dag_run": run, "ti": SimpleNamespace(task_id="training.train_baseline")}
    operators.renew_report_of_run({"reason": "timed_out"})  # if the DAG has changed since, Airflow tells no more
    operators.renew_report_of_run(context)
    assert renewed == [] and len(list((folder / "steps").iterdir())) == 1, "the step has told it"
    operators.renew_report_of_run(context | {"reason": "timed_out"})
    left = json.loads((folder / "steps" / "train_baseline.json").read_text())
    assert (left["state"], left["run"]) == ("killed", "r") and "took too long" in left["message"] and renewed == [folder]
    (folder / "steps" / "train_baseline.json").unlink()
    operators.end_of_run(run, [*tried, waits], "somebody marked it as failed in Airflow")
    assert {path.name for path in (folder / "steps").iterdir()} == {"ingest.json", "train_baseline.json"}
    assert (folder / "steps" / "ingest.json").read_text() == "{}" and renewed == [folder, folder]
    other = SimpleNamespace(dag_id="esans_tune", data_interval_start=run.data_interval_start)
    operators.end_of_run(other, tried, "the same")
    assert len(renewed) == 2
