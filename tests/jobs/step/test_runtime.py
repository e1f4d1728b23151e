"""Jobs as commands: their exit status and the record that they write, in real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.base.locks import nobody_at_work

JOB = """
import sys
sys.path.insert(0, {root!r})
from jobs.base.errors import DataError
from jobs.step.runtime import run_job

def run(settings, flavour):
    if flavour == "bad":
        raise DataError("holds nothing.", file="a.parquet", column="x", rows=[3], remedy="bring rows.")
    if flavour == "broken":
        raise OSError("disk gone")
    return {{"flavour": flavour}}

run_job("demo", run, choice=("flavour", ("good", "bad", "broken")))
"""


def execute(tmp_path: Path, *args: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    script = tmp_path / "demo.py"
    script.write_text(JOB.format(root=str(Path(__file__).parents[3])))
    command = [sys.executable, str(script), *args, "--home", str(tmp_path / "home")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    records = list((tmp_path / "home").rglob("steps/*.json"))
    return done, json.loads(records[0].read_text()) if records else {}


@pytest.mark.parametrize(
    ("flavour", "status", "state", "message"),
    [
        ("good", 0, "success", ""),
        ("bad", 65, "failed", "a.parquet, column 'x', rows [3]: holds nothing. Remedy: bring rows."),
        ("broken", 1, "failed", "OSError: disk gone"),
    ],
)
def test_exit_status_and_record(tmp_path: Path, flavour: str, status: int, state: str, message: str) -> None:
    done, record = execute(tmp_path, flavour)
    assert done.returncode == status, done.stderr
    found = (record["step"], record["state"], record["exit_status"], record["message"])
    assert found == (f"demo_{flavour}", state, status, message)
    assert record["peak_memory_mb"] > 5 and record["seconds"] >= 0


def test_refused_settings_name_the_setting(tmp_path: Path) -> None:
    done, record = execute(tmp_path, "good", "--training.epochs", "0")
    assert done.returncode == 65 and "training.epochs" in done.stderr and record == {}


def test_help_lists_the_flags(tmp_path: Path) -> None:
    done, _ = execute(tmp_path, "--help")
    assert done.returncode == 0 and "--training.epochs" in done.stdout


def test_a_step_waits_while_somebody_has_the_home_alone(tmp_path: Path) -> None:
    script, marker = tmp_path / "demo.py", tmp_path / "home" / "rewritten"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        "from jobs.step.runtime import run_job\n"
        "run_job('demo', lambda settings: {'rewritten': (settings.home / 'rewritten').exists()})\n"
    )
    with nobody_at_work(tmp_path / "home"):
        step = subprocess.Popen([sys.executable, str(script), "--home", str(tmp_path / "home")])
        with pytest.raises(subprocess.TimeoutExpired):
            step.wait(4)
        marker.touch()
    assert step.wait(60) == 0
    (record,) = (tmp_path / "home").rglob("steps/demo.json")
    assert json.loads(record.read_text())["summary"] == {"rewritten": True}
