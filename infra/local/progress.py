"""Follows one DAG run: says each change of state, gives a sign of life in between, and says at the end what went wrong."""

import datetime as dt
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.client import AirflowClient

_POLL_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0
_TAIL_BYTES = 64 * 1024
_LINE_LENGTH = 120
_JOB_LINE = re.compile(r"\b(?:INFO|WARNING|ERROR) (?:jobs|esans_core|__main__)[\w.]*: (?P<text>.*)")
_SHOWN = ("running", "success", "failed", "up_for_retry")


@dataclass(frozen=True)
class Failure:
    """A step that failed: what it said, whether its input was at fault, and its log."""

    step: str
    message: str
    bad_data: bool
    log: Path


@dataclass(frozen=True)
class RunResult:
    """How a DAG run ended."""

    run_id: str
    success: bool
    seconds: float
    failures: tuple[Failure, ...] = ()


class Watch:
    """Follows one run.

    Args:
        client: where to ask.
        run_id: the run.
        logs: folder of the run's task logs.
        records: folder of the step records that the jobs write.
        say: gets each line.
        started: when the run was asked for, seconds since the epoch.
    """

    def __init__(
        self, client: AirflowClient, run_id: str, logs: Path, records: Path, say: Callable[[str], None], started: float
    ) -> None:
        self._client, self._run_id, self._logs, self._records = client, run_id, logs, records
        self._say, self._started = say, started
        self._seen: dict[str, tuple[str, int]] = {}
        self._last_line = time.monotonic()

    def until_done(self, check: Callable[[], None]) -> RunResult:
        """Follow the run to its end; `check` is called on every round and may raise."""
        while True:
            state = self._client.run(self._run_id)["state"]
            tasks = self._client.task_instances(self._run_id)
            self._report_changes(tasks)
            if state in ("success", "failed"):
                failures = tuple(self._failure(task) for task in tasks if task["state"] == "failed")
                return RunResult(self._run_id, state == "success", time.time() - self._started, failures)
            check()
            self._report_life(tasks)
            time.sleep(_POLL_SECONDS)

    def _report_changes(self, tasks: list[dict[str, Any]]) -> None:
        for task in sorted(tasks, key=lambda task: task["start_date"] or ""):
            now = (task["state"], task["try_number"])
            if task["state"] in _SHOWN and self._seen.get(task["task_id"]) != now:
                before, _ = self._seen.get(task["task_id"], ("", 0))
                self._seen[task["task_id"]] = now
                self._line(f"{_step(task):<20} {_describe(task)}{' again' if before == 'up_for_retry' else ''}")

    def _report_life(self, tasks: list[dict[str, Any]]) -> None:
        if time.monotonic() - self._last_line < _HEARTBEAT_SECONDS:
            return
        for task in tasks:
            if task["state"] == "running":
                since = time.time() - dt.datetime.fromisoformat(task["start_date"]).timestamp()
                said = last_job_line(self._log_of(task))
                self._line(f"{_step(task):<20} working for {since:.0f} s{': ' + said if said else ''}")
        self._last_line = time.monotonic()

    def _line(self, text: str) -> None:
        minutes, seconds = divmod(int(time.time() - self._started), 60)
        self._say(f"[{minutes:3d}:{seconds:02d}] {text}")
        self._last_line = time.monotonic()

    def _log_of(self, task: dict[str, Any]) -> Path:
        return self._logs / f"task_id={task['task_id']}" / f"attempt={max(task['try_number'], 1)}.log"

    def _failure(self, task: dict[str, Any]) -> Failure:
        log, step = self._log_of(task), _step(task)
        kind, message = last_error(log)
        record = self._records / f"{step}.json"
        if record.exists() and record.stat().st_mtime >= self._started:
            message = json.loads(record.read_text()).get("message") or message
        return Failure(step, message or last_event(log) or "no message was recorded", kind == "BadInputError", log)


def last_event(log: Path) -> str:
    """The latest line a task has logged, or ''."""
    events = [event["event"].strip() for event in _events(log) if str(event.get("event", "")).strip()]
    return events[-1] if events else ""


def last_job_line(log: Path) -> str:
    """The latest line that one of our own modules has logged, without its prefix, or ''. Lines of others are skipped."""
    found = [match for event in _events(log) if (match := _JOB_LINE.search(event["event"]))]
    return found[-1]["text"].strip()[:_LINE_LENGTH] if found else ""


def last_error(log: Path) -> tuple[str, str]:
    """Type and message of the exception that ended a task, or two empty strings."""
    for event in reversed(_events(log)):
        if details := event.get("error_detail"):
            return details[0].get("exc_type", ""), details[0].get("exc_value", "")
    return "", ""


def _events(log: Path) -> list[dict[str, Any]]:
    if not log.exists():
        return []
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines()
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # cut by the seek, or still being written
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            events.append(event)
    return events


def _step(task: dict[str, Any]) -> str:
    return task["task_id"].rsplit(".", 1)[-1]


def _describe(task: dict[str, Any]) -> str:
    seconds = f"{task['duration'] or 0:.0f} s"
    return {
        "running": "started",
        "success": f"done in {seconds}",
        "up_for_retry": f"failed after {seconds}, will be tried again",
        "failed": f"FAILED after {seconds}",
    }[task["state"]]
