"""What is said of a stack: which of its processes live, and whose home must be left alone."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from infra.local.daemons import remember_supervisor, supervisor_of
from infra.local.environment import MARKER
from infra.local.processes import StackError
from infra.local.stack import LocalStack
from infra.local.status import Component, Status
from infra.local.up import client_of, down, main


@pytest.mark.parametrize(
    ("states", "code"), [(("up", "up"), 0), (("up", "down"), 1), (("up", "not well"), 1), (("down", "down"), 3), ((), 3)]
)
def test_exit_status_tells_all_some_and_none(states: tuple[str, ...], code: int) -> None:
    assert Status(tuple(Component("x", "", state) for state in states)).exit_code == code


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
