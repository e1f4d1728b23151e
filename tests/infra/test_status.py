"""What is said of a stack: which of its processes live, and whose home must be left alone."""

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest

from infra.local import status as status_module
from infra.local.client import AirflowClient
from infra.local.daemons import remember_supervisor, supervisor_of
from infra.local.environment import MARKER
from infra.local.mlflow_server import mlflow_environment
from infra.local.ports import Ports
from infra.local.processes import StackError
from infra.local.stack import LocalStack
from infra.local.standing import Disk, disk_of, standing
from infra.local.status import Component, Status, all_up
from infra.local.up import client_of, down, main
from jobs.base.files import write_json


@pytest.mark.parametrize(
    ("states", "code"), [(("up", "up"), 0), (("up", "down"), 1), (("up", "not well"), 1), (("down", "down"), 3), ((), 3)]
)
def test_exit_status_tells_all_some_and_none(states: tuple[str, ...], code: int) -> None:
    assert Status(tuple(Component("x", "", state) for state in states)).exit_code == code


def test_a_disk_without_room_for_another_date_is_not_well(tmp_path: Path) -> None:
    up = (Component("x", "", "up", 7, dt.datetime(2026, 1, 28), 5),)
    assert Status(up, disk_lasts=False).exit_code == 1 and all_up(up)
    assert str(Status(up, disk_lasts=False)).startswith("THE DISK IS NEARLY FULL")
    assert disk_of(tmp_path).each is None and "after the first date" in str(disk_of(tmp_path))
    for date in ("2026-01-27", "2026-01-28"):
        (tmp_path / "runs" / date).mkdir(parents=True)
        (tmp_path / "runs" / date / "a").write_bytes(b"x" * 2**20)
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "b").write_bytes(b"x" * 2**22)  # it does not grow by dates
    old = tmp_path / "old"
    old.write_bytes(b"x" * 2**22)
    os.utime(old, (0, 0))
    found = disk_of(tmp_path)
    assert found.each == 2**20 and found.days is not None and found.days > 1, found
    assert "more dates of 1 MiB each" in str(found) and Disk(5, 10).days == 0.5


def test_what_a_home_has_come_to_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(2**40, 2**30)
    told = dict(standing(tmp_path, None, disk))
    assert told.keys() == {"champion", "last run", "waits", "disk"}
    assert "no model is in force" in told["champion"] and "while Airflow does not answer" in told["last run"]
    (tmp_path / "serving").mkdir()
    entry = {"at": "2026-01-29T03:04:05+00:00", "name": "2026-01-28-v3-abc", "version": "3", "by": "ann", "reason": "mended"}
    (tmp_path / "serving" / "history.jsonl").write_text(json.dumps(entry) + "\n")
    run = tmp_path / "runs" / "2026-01-28"
    write_json(run / "steps" / "prepare.json", {"step": "prepare", "state": "success", "run": "manual__1"})
    write_json(run / "verdict.json", {"verdict": "awaiting_review", "version": "4", "champion_version": "3"})
    client = AirflowClient("http://127.0.0.1:9", "none")
    monkeypatch.setattr(client, "runs", lambda **given: [{"dag_run_id": "manual__1", "state": "running"}])
    told = dict(standing(tmp_path, client, disk))
    assert told["champion"] == "version 3, bundle 2026-01-28-v3-abc, since 2026-01-29 03:04 UTC, by ann, a person"
    assert told["last run"].startswith("manual__1, running; NOT PROMOTED YET, waiting for a review: version 4")
    assert told["waits"] == "Version 4 of 2026-01-28 waits" and told["disk"].startswith(
        "1,024.0 GiB left, enough for 1,024 more"
    )
    write_json(run / "steps" / "ingest.json", {"step": "ingest", "state": "failed", "message": "no rows", "run": "manual__1"})
    assert dict(standing(tmp_path, client, disk))["last run"] == "manual__1, running; ingest failed: no rows"


def test_a_home_that_has_never_been_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--home", str(tmp_path)]) == 3
    assert "nothing is up" in capsys.readouterr().out
    assert down(tmp_path / "nowhere") is False
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(StackError, match="has never been up"):
        client_of(tmp_path)


def test_a_number_that_another_process_has_now_is_no_daemon(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    with _sleeper({MARKER: str(tmp_path)}) as sleeper:
        remember_supervisor(tmp_path, sleeper.pid)
        found = supervisor_of(tmp_path)
        assert found is not None and found.pid == sleeper.pid
        (tmp_path / "airflow" / "supervisor.json").write_text(json.dumps([sleeper.pid, 1.0]))
        assert supervisor_of(tmp_path) is None


def test_a_run_of_its_own_leaves_a_home_alone_that_is_up(tmp_path: Path) -> None:
    (tmp_path / "airflow").mkdir()
    with _sleeper({MARKER: str(tmp_path)}) as sleeper:
        remember_supervisor(tmp_path, sleeper.pid)
        with pytest.raises(StackError, match="make down"), LocalStack(tmp_path, say=lambda _: None):
            pass
        assert sleeper.poll() is None


def test_a_copied_home_neither_has_nor_stops_the_processes_of_the_other(tmp_path: Path) -> None:
    home, copy = tmp_path / "home", tmp_path / "copy"
    (home / "airflow").mkdir(parents=True)
    with _sleeper({MARKER: str(home)}) as sleeper:
        remember_supervisor(home, sleeper.pid)
        shutil.copytree(home, copy)
        assert supervisor_of(home) is not None and supervisor_of(copy) is None
        assert down(copy, say=lambda _: None) is False
        assert sleeper.poll() is None


@contextmanager
def _sleeper(environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command, env=os.environ | (environment or {})) as process:
        while not psutil.Process(process.pid).environ():  # for a moment after its start it seems to have none
            time.sleep(0.01)
        yield process
        process.kill()


@contextmanager
def _mlflow_that_answers(code: int) -> Iterator[tuple[int, list[str]]]:
    """The port of a server that answers every question like MLflow without its database, or with it; and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            # MLflow's `/health` asks no database, so it says OK in either case.
            self.send_response(200 if self.path == "/health" else code)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


@pytest.mark.parametrize(("code", "state"), [(200, "up"), (500, "not well"), (503, "not well")])
def test_mlflow_is_not_up_while_its_database_is_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, state: str
) -> None:
    monkeypatch.setattr(status_module, "daemons_of", lambda home: {"mlflow": psutil.Process()})
    with _mlflow_that_answers(code) as (port, asked):
        (tmp_path / "airflow").mkdir()
        Ports(airflow=9, mlflow=port, postgres=None, reports=None).keep(tmp_path)
        found = {part.name: part.state for part in status_module.status(tmp_path).components}
    assert found["MLflow"] == state and asked and not any(path == "/health" for path in asked)


@pytest.mark.mlflow
def test_mlflow_remembers_a_right_password_for_minutes(tmp_path: Path) -> None:
    """MLflow's own reader of the file that it is given: without this, each request costs a quarter of a second of a core."""
    keys = {"mlflow_password": "a", "mlflow_session_key": "b"}
    given = mlflow_environment(os.environ, tmp_path, keys, "sqlite://", "sqlite://")
    program = "from mlflow.server.auth.config import read_auth_config as read; print(read().auth_cache_ttl_seconds)"
    done = subprocess.run([sys.executable, "-c", program], env=given, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 60
