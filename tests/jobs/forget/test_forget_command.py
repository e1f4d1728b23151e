"""The command as a process: where the id may come from, what it refuses, and that it never writes the id."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs.base.locks import at_work
from jobs.base.settings import PipelineSettings
from tests.jobs.forget.forget_home import DATES, files_naming, write_days


@pytest.mark.mlflow
class TestCommand:
    def run(self, home: Path, *args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs.forget", "--home", str(home), *args]
        environment = os.environ | more.pop("env", {})
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120, **more)

    def test_the_id_may_come_from_a_file_from_standard_input_or_from_the_dag(
        self, settings: PipelineSettings, home: Path, tmp_path: Path
    ) -> None:
        write_days(settings, ["-rf *1", "Jörg 2", "u0003", "u0004"])
        (tmp_path / "id.txt").write_text("Jörg 2\n")
        done = [
            self.run(home, "--user=-rf *1"),
            self.run(home, "--user-file", str(tmp_path / "id.txt")),
            self.run(home, "--user", "-", input="u0003\n"),
            self.run(home, "--action", "manual__1", env={"ESANS_FORGET_USER": "u0004"}),
        ]
        for number, (each, user_id) in enumerate(zip(done, ["-rf *1", "Jörg 2", "u0003", "u0004"], strict=True)):
            assert each.returncode == 0, each.stderr
            assert user_id not in each.stderr and user_id not in each.stdout, number
            assert json.loads(each.stdout)["tables"][str(DATES[0])]["users"]["rows"] == 1
            assert files_naming(home, user_id) == []
        record = json.loads((home / "actions" / "manual__1" / "forget.json").read_text())
        assert (record["state"], record["exit_status"]) == ("success", 0)

    def test_it_refuses_and_says_why_without_the_id(self, settings: PipelineSettings, home: Path) -> None:
        for args in ((), ("--user", "-rf77"), ("--user", "u0001", "--user-file", "x"), ("--user", "u0001", "--action", "../x")):
            done = self.run(home, *args)
            assert done.returncode == 65 and "u0001" not in done.stderr and "rf77" not in done.stderr, args
        with at_work(home):
            done = self.run(home, "--user", "u0001", "--action", "a1")
        assert done.returncode == 75 and "step is at work" in done.stderr
        assert json.loads((home / "actions" / "a1" / "forget.json").read_text())["exit_status"] == 75
