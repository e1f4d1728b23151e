"""docs/runbook.md against the code: every alert has its entry, and every name, message, rule and command in it is real."""

import errno
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.base.settings import PipelineSettings
from tests.tutorials import ROOT, made_by

pytestmark = pytest.mark.airflow

PAGE = (ROOT / "docs" / "runbook.md").read_text()
RULES = yaml.safe_load((ROOT / "infra" / "prometheus" / "rules.yaml").read_text())["groups"][0]["rules"]
MONITORING = (ROOT / "docs" / "monitoring.md").read_text()
# Names as the code has them; one of them stands for several, by `{kind}`.
PATTERNS = set(re.findall(r'"(esans_[a-z_{}]+)"', (ROOT / "jobs" / "step" / "metrics_file.py").read_text()))


def entries(title: str) -> list[list[str]]:
    """The rows of the table in one section, as cells."""
    section = PAGE.split(f"\n## {title}")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
    assert len(cells) > 2 and all(len(row) == len(cells[0]) and all(row) for row in cells), title
    return cells[2:]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_every_line_of_a_table_belongs_to_one() -> None:
    """A blank line within a table would end it, and the page would show what follows as text."""
    lines = PAGE.splitlines()
    heads = [number for number, line in enumerate(lines) if line.startswith("|---")]
    assert len(heads) == 3 == sum(line.startswith("|") and not lines[at].startswith("|") for at, line in enumerate(lines[1:]))


def test_every_state_that_an_alert_can_have_is_there_and_no_other(dags: dict[str, Any]) -> None:
    from airflow.jobs import scheduler_job_runner
    from airflow.models import dagrun

    from dags.alerts import MARKED_FAILED, AlertNotifier, component_alert

    found = {component_alert("scheduler", "/home", "gone")["state"], MARKED_FAILED}
    for dag in dags.values():
        callbacks = [*_listed(dag.on_failure_callback), *(one for task in dag.tasks for one in _of_task(task))]
        found |= {callback.state for callback in callbacks if isinstance(callback, AlertNotifier)}
        found |= {alert.callback.kwargs["state"] for alert in _listed(dag.deadline)}
    # A callback of a run gets Airflow's own word for why it failed.
    source = inspect.getsource(dagrun) + inspect.getsource(scheduler_job_runner.SchedulerJobRunner)
    reasons = set(re.findall(r'reason="(\w+)"', source))
    assert {"task_failure", "timed_out"} <= reasons, "Airflow says it in another way now"
    found |= reasons - {"success", "task_failure"}  # a task that fails sends an alert of its own
    named = {state for row in entries("Alerts about runs") for state in quoted(row[0])}
    assert named | set(quoted("`failed`")) == found and "has failed: `failed`" in PAGE


def _listed(one: Any) -> list[Any]:
    return [] if one is None else list(one) if isinstance(one, list | tuple) else [one]


def _of_task(task: Any) -> list[Any]:
    return [*_listed(task.on_failure_callback), *getattr(task, "notifiers", [])]


def test_each_task_and_message_is_one_of_the_code(dags: dict[str, Any]) -> None:
    from airflow.sdk.execution_time.timeout import TimeoutPosix

    tasks = {task.task_id.rpartition(".")[2] for dag in dags.values() for task in dag.tasks}
    files = [path for room in ("jobs", "dags") for path in (ROOT / room).rglob("*.py")]
    code = "\n".join(path.read_text() for path in files)
    code += os.strerror(errno.ENOSPC) + TimeoutPosix().error_message
    for task_and_message, *_ in entries("A task has failed"):
        assert set(quoted(task_and_message)) <= tasks, task_and_message
        for message in re.findall(r"\*([^*]+)\*", task_and_message):
            assert message in code, message
    gates = {task for task in tasks if task.startswith("gate_")}
    assert gates <= {name for row in entries("A task has failed") for name in quoted(row[0])}


def pattern_of(metric: str) -> str | None:
    """The name in the code that gives this metric, or None."""
    return next((name for name in PATTERNS if re.fullmatch(name.replace("{kind}", "(recall|ndcg)"), metric)), None)


def test_rules_and_tables_name_the_metrics_that_there_are() -> None:
    rules = entries("Rules for Prometheus")
    assert [re.findall(r"^(\w+): `([^`]+)`", rule) for rule, *_ in rules] == [[(rule["alert"], rule["expr"])] for rule in RULES]
    named = [re.findall(r"esans_\w+", rule) for rule, *_ in rules]
    assert all(named) and all(pattern_of(metric) for metric in sum(named, []))
    ends = r"esans_[a-z_]+_(?:seconds|bytes|ratio|rows|success|killed|severity)\b"
    assert all(pattern_of(metric) for metric in re.findall(ends, PAGE))
    table = "".join(line for line in MONITORING.splitlines() if line.startswith("| `esans_"))
    assert {pattern_of(metric) for metric in re.findall(r"`(esans_\w+)`", table)} == PATTERNS


def test_every_setting_variable_and_dag_is_one_that_there_is(dags: dict[str, Any]) -> None:
    settings = PipelineSettings().flat()
    sections = {name.split(".")[0] for name in settings}
    for name in quoted(PAGE):
        if re.fullmatch(r"[a-z]+\.[a-z_]+", name) and name.split(".")[0] in sections:
            assert name in settings, name
    assert {name for name in quoted(PAGE) if re.fullmatch(r"esans_[a-z]+", name)} - {"esans_alerts"} <= set(dags)


def test_every_command_can_be_typed(tmp_path: Path) -> None:
    targets = {name for name in quoted(PAGE) if name.startswith("make ")}
    assert len(targets) == 3
    for command in targets:
        assert made_by(command)
    (block,) = re.findall(r"^```\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    by_hand = [shlex.split(line) for line in block.splitlines() if " -m jobs." in line]
    assert len(by_hand) == 1 == len(re.findall(r"python -m", PAGE))
    for _, *words in by_hand:
        words[words.index("--home") + 1] = str(tmp_path)
        variables = {"ESANS_REGISTRY__TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, env=os.environ | variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == 65 and "no earlier bundle to go back to" in done.stderr, done.stderr  # the home is empty
