"""Waiting for a server that was just started: until it answers, or until it has ended."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.processes import StackError, await_answer, free_port


def test_a_server_that_answers_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "ready").write_text("yes")
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        await_answer(server, f"http://127.0.0.1:{port}/ready", seconds=60)
        with pytest.raises(StackError, match="does not answer"):
            await_answer(server, f"http://127.0.0.1:{port}/missing", seconds=0)
    finally:
        server.kill()
        server.wait()


def test_a_server_that_has_ended_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("the port is taken\n")
    server = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(StackError, match=r"exit status 3\):\nthe port is taken"):
        await_answer(server, f"http://127.0.0.1:{free_port()}/", seconds=60, log=log)
