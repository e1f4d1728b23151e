"""`make up`, `down` and `status`: what they refuse at once, and a real stack on PostgreSQL that is killed at and stopped."""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import requests

from infra.local import databases
from infra.local import status as status_module
from infra.local import up as up_module
from infra.local.daemons import daemons_of
from infra.local.environment import load_secrets
from infra.local.ports import Ports
from infra.local.processes import StackError, stack_processes
from infra.local.stack import LocalStack
from infra.local.status import status
from infra.local.up import Options, client_of, main, up
from jobs.base.errors import EXIT_BAD_DATA, DataError
from tests.infra.command_lines import command_line
from tests.whole_stack import FinishedDay, LiveStack

# Refused before anything starts


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (Options(schedule="every day"), "neither cron nor a preset"),
        (Options(otel="127.0.0.1:4318"), "is not http"),
        (Options(data="/nowhere/at/all"), "the source folder does not exist"),
    ],
)
def test_options_that_cannot_be_used_are_refused_with_the_remedy(tmp_path: Path, options: Options, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        up(tmp_path / "home", options)
    assert not (tmp_path / "home").exists()


def test_command_line_says_why_and_ends_with_the_status_of_bad_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["up", "--home", str(tmp_path / "home"), "--schedule", "often"]) == EXIT_BAD_DATA
    assert "'0 3 * * *'" in capsys.readouterr().out


def test_a_taken_port_is_an_error_that_names_the_way_out_and_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for options, name in ((Options(port=taken.getsockname()[1]), "PORT"), (_anywhere(taken), "MLFLOW_PORT")):
            with pytest.raises(StackError, match=f"make up`:  {name}=<a free port>"):
                up(tmp_path, options)
    assert stack_processes(tmp_path) == []


def _anywhere(taken: socket.socket) -> Options:
    return Options(port=0, mlflow_port=taken.getsockname()[1])


# The real thing


@pytest.fixture
def home(live_stack: LiveStack) -> Path:
    """A home that is up."""
    return live_stack.home


class TestStack:
    """One stack, in order: up, looked at, killed at, up again. The folder `operations` works with it and takes it down."""

    pytestmark = [pytest.mark.airflow, pytest.mark.mlflow, pytest.mark.slow]

    def test_all_is_up_on_loopback_alone(self, home: Path) -> None:
        _until(lambda: status(home).exit_code == 0)
        found = status(home)
        assert [part.name.split()[-1] for part in found.components] == [
            "supervisor",
            "alerts",
            "PostgreSQL",
            "MLflow",
            "reports",
            "api-server",
            "scheduler",
            "dag-processor",
            "triggerer",
        ]
        assert all(part.memory_mb > 10 and part.since for part in found.components)
        told = str(found)
        assert all(f"pid {part.pid}" in told for part in found.components)
        # What `make run` made in this home is in force, and the stack has run nothing yet.
        assert "champion               version 1, bundle" in told and "none yet" in told and "GiB left" in told
        assert _listening(home) >= {part.address.split(":")[-1] for part in found.components[3:6]}

    def test_nobody_gets_in_without_the_password_and_it_is_on_no_command_line(self, home: Path) -> None:
        ports, keys = Ports.of(home), load_secrets(home / "airflow")
        assert ports is not None
        search = f"{ports.mlflow_url}/api/2.0/mlflow/registered-models/search"
        wrong, right = ("admin", "no"), _admin(keys)
        tries = (None, wrong, right, right, wrong, None)  # a right password is remembered, and a wrong one stays wrong
        codes = [requests.get(search, auth=who, timeout=30).status_code for who in tries]
        assert codes == [401, 401, 200, 200, 401, 401]
        assert requests.get(f"{ports.airflow_url}/api/v2/dags", timeout=30).status_code == 401
        lines = " ".join(map(command_line, stack_processes(home)))
        assert not [name for name, value in keys.items() if value in lines]
        logs = " ".join(path.read_text(errors="replace") for path in (home / "airflow" / "logs" / "components").iterdir())
        assert not [name for name, value in keys.items() if value in logs]

    def test_the_jobs_registry_is_the_server_and_keeps_its_artifacts(self, home: Path) -> None:
        assert _mlflow(home, "log") == "logged"
        assert list((home / "mlflow" / "artifacts").rglob("note.txt"))

    def test_dags_are_unpaused_without_a_schedule_and_the_pool_stays_as_its_owner_wants_it(self, home: Path) -> None:
        client = client_of(home)
        dag = client.dag()
        assert dag is not None and not dag["is_paused"]
        assert client.runs() == []
        client.ensure_pool("gpu", 7, "another")
        pool = requests.get(f"{_url(home)}/api/v2/pools/gpu", headers={"Authorization": _token(home)}, timeout=30).json()
        assert pool["slots"] == 1

    def test_up_again_starts_nothing(self, home: Path) -> None:
        before, lines = daemons_of(home), []
        up(home, say=lines.append)
        assert daemons_of(home) == before
        assert "is up already" in lines[0]
        with pytest.raises(StackError, match="make down"), LocalStack(home, say=lines.append):
            pass
        assert daemons_of(home) == before

    def test_airflows_metrics_reach_the_collector(self, live_stack: LiveStack) -> None:
        _until(lambda: "airflow.scheduler_heartbeat" in live_stack.heard.metrics)

    def test_each_component_that_is_killed_is_back_with_its_data_and_its_log(self, live_stack: LiveStack, home: Path) -> None:
        before, database = daemons_of(home), status_module.database_of(home)
        assert database is not None and database.process is not None
        assert set(before) == {"mlflow", "reports", "api-server", "dag-processor", "scheduler", "triggerer"}
        server = database.process
        for process in (server, *before.values()):
            process.kill()
        _until(lambda: status(home).exit_code == 0)
        after = daemons_of(home)
        assert set(after) == set(before) and not {p.pid for p in after.values()} & {p.pid for p in before.values()}
        assert database.process is not None and database.process.pid != server.pid
        assert _mlflow(home, "read") == "kept"
        log = (home / "airflow" / "logs" / "components" / "mlflow.log").read_text()
        assert log.count("Application startup complete") >= 2  # the log of the crash is still there
        for _ in range(2):  # with the kill above, the third end within an hour
            killed = daemons_of(home)["triggerer"]
            killed.kill()
            _until(lambda: (now := daemons_of(home).get("triggerer")) is not None and now.pid != killed.pid)  # noqa: B023

        def told() -> list[str]:
            """What was said of the triggerer. Others may have ended more than once, too, until the database was back."""
            said = [alert["message"] for alert in live_stack.heard.alerts if alert["state"] == "component_down"]
            return [message for message in said if "the triggerer" in message]

        _until(lambda: told() != [])
        assert "three times within an hour" in told()[0]

    def test_up_without_arguments_is_the_same_stack_again(self, live_stack: LiveStack, home: Path) -> None:
        """After a crash of all of it, in a shell that knows nothing of how it was started."""
        before, was = Ports.of(home), daemons_of(home)["scheduler"].environ()
        for process in stack_processes(home):
            process.kill()
        _until(lambda: daemons_of(home) == {})
        lines: list[str] = []
        assert up(home, say=lines.append) == before
        now = daemons_of(home)["scheduler"].environ()
        kept = ("AIRFLOW_CONN_ESANS_ALERTS", "ESANS_SCHEDULE", "ESANS_SHOP__NUM_ITEMS", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
        assert {name: now[name] for name in kept} == {name: was[name] for name in kept}
        assert not [line for line in lines if "differs" in line]
        _until(lambda: status(home).exit_code == 0)
        assert _mlflow(home, "read") == "kept"


@pytest.mark.airflow
@pytest.mark.mlflow
@pytest.mark.slow
def test_a_component_that_dies_at_the_start_is_shown_and_the_rest_is_stopped(
    tmp_path: Path, finished_day: FinishedDay, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "airflow").mkdir()
    shutil.copy(finished_day.untouched / "airflow" / "airflow.db", tmp_path / "airflow")  # its tables take ten seconds to make
    monkeypatch.setattr(databases.postgres, "installed", lambda: False)
    monkeypatch.setattr(up_module, "mlflow_command", lambda home, port: ("mlflow", "server", "--no-such-option"))
    lines: list[str] = []
    with pytest.raises(StackError, match=r"the mlflow ended \(.*\); see .*mlflow\.log\n[\s\S]*No such option"):
        up(tmp_path, Options(port=0, mlflow_port=0, reports_port=0, schedule="none"), say=lines.append)
    assert any("SQLite" in line for line in lines)
    assert stack_processes(tmp_path) == [] and status(tmp_path).exit_code == 3


def _listening(home: Path) -> set[str]:
    """Ports that the stack listens on; all of them on loopback."""
    listening = []
    for process in stack_processes(home):
        with suppress(psutil.Error, FileNotFoundError):  # it has ended since
            found = process.net_connections("inet")
            listening += [connection.laddr for connection in found if connection.status == psutil.CONN_LISTEN]
    assert {address.ip for address in listening} == {"127.0.0.1"}
    return {str(address.port) for address in listening}


def _mlflow(home: Path, action: str) -> str:
    """Log to, or read from, the server with the environment that a job has."""
    program = (
        "import sys, mlflow\nmlflow.set_experiment('kept')\n"
        "if sys.argv[1] == 'log':\n"
        "    with mlflow.start_run(run_name='kept'):\n        mlflow.log_text('hello', 'note.txt')\n    print('logged')\n"
        "else:\n    run = mlflow.search_runs(output_format='list')[0]\n"
        "    print('kept' if mlflow.artifacts.load_text(run.info.artifact_uri + '/note.txt') == 'hello' else 'lost')\n"
    )
    scheduler = daemons_of(home)["scheduler"].environ()
    uri = scheduler["ESANS_REGISTRY__TRACKING_URI"]
    environment = {name: value for name, value in scheduler.items() if not name.startswith("AIRFLOW__")}
    done = subprocess.run(
        [sys.executable, "-c", program, action],
        env=environment | {"MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def _admin(keys: dict[str, str]) -> tuple[str, str]:
    return "admin", keys["mlflow_password"]


def _url(home: Path) -> str:
    ports = Ports.of(home)
    assert ports is not None
    return ports.airflow_url


def _token(home: Path) -> str:
    body = {"username": "admin", "password": load_secrets(home / "airflow")["password"]}
    return f"Bearer {requests.post(f'{_url(home)}/auth/token', json=body, timeout=30).json()['access_token']}"


def _until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not ready():
        assert time.monotonic() < deadline, "not within the time allowed"
        time.sleep(0.2)
