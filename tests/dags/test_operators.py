"""Operators over real processes: exit status 65 ends a task for good, anything else takes its retries."""

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.local.environment import REPOSITORY, stack_environment

pytestmark = pytest.mark.airflow

# A DAG run in one process: Airflow's own task runner, its retry logic and its database, without scheduler and server.
PROBE = """
import json, sys
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from dags.operators import RETRY_DEFAULTS, PrepareOperator, PythonJobOperator

once_more = RETRY_DEFAULTS | {"retries": 1, "retry_delay": timedelta(seconds=1), "retry_exponential_backoff": False}
with DAG("probe", schedule=None, start_date=datetime(2020, 1, 1, tzinfo=UTC), default_args=once_more) as dag:
    PythonJobOperator(task_id="bad_data", job="prepare", arguments=["--training.epochs=0"])
    PythonJobOperator(task_id="broken", job="there_is_no_such_job", arguments=[])
    PrepareOperator(task_id="bad_conf", job="there_is_no_such_job", arguments=[])

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


def _context(conf: dict[str, Any] | None = None) -> Any:
    class Run:
        pass

    run = Run()
    run.conf = conf or {}  # type: ignore[attr-defined]
    return {"ds": "2026-01-28", "dag_run": run}


def test_message_of_the_step_record_becomes_the_task_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import operators

    monkeypatch.setattr(operators, "HOME", tmp_path)
    job = tmp_path / "jobs" / "refusing.py"
    job.parent.mkdir()
    (job.parent / "__init__.py").touch()
    record = tmp_path / "runs" / "2026-01-28" / "steps" / "refusing.json"
    job.write_text(
        "import json, pathlib, sys\n"
        f"record = pathlib.Path({str(record)!r})\n"
        "record.parent.mkdir(parents=True, exist_ok=True)\n"
        "record.write_text(json.dumps({'message': 'the table is empty'}))\n"
        "sys.exit(int(sys.argv[1]))\n"
    )
    monkeypatch.setattr(operators, "REPOSITORY", tmp_path)
    for status, kind in ((65, operators.BadInputError), (1, operators.StepFailedError)):
        task = operators.PythonJobOperator(task_id="refusing", job="refusing", arguments=[str(status)])
        with pytest.raises(kind, match=f"refusing ended with exit status {status}: the table is empty"):
            task.execute(_context())


def test_stale_record_of_an_earlier_try_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import operators

    record = tmp_path / "runs" / "2026-01-28" / "steps" / "gone.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"message": "yesterday's trouble"}))
    monkeypatch.setattr(operators, "HOME", tmp_path)
    task = operators.PythonJobOperator(task_id="gone", job="there_is_no_such_job", arguments=[])
    with pytest.raises(operators.StepFailedError) as failure:
        task.execute(_context())
    assert "yesterday" not in str(failure.value)


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
    monkeypatch.setattr(operators, "HOME", tmp_path)
    for status, kind in ((65, operators.BadInputError), (3, operators.StepFailedError)):
        task = operators.SparkJobOperator(task_id="ending", job="ending", arguments=[str(status)])
        task.conf = {}  # the template of the driver's memory is rendered by Airflow only inside a run
        with pytest.raises(kind, match=f"ending ended with exit status {status}"):
            task.execute(_context())


def test_jobs_see_no_airflow_secrets() -> None:
    from dags.operators import job_environment

    seen = job_environment({"AIRFLOW__CORE__FERNET_KEY": "key", "AIRFLOW_HOME": "/a", "ESANS_HOME": "/b"})
    assert seen == {"AIRFLOW_HOME": "/a", "ESANS_HOME": "/b"}


def test_back_off_is_short_first_and_bounded() -> None:
    from dags.operators import RETRY_DEFAULTS

    assert RETRY_DEFAULTS["retry_delay"] < RETRY_DEFAULTS["max_retry_delay"] <= timedelta(minutes=30)
