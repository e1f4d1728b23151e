"""The two ways a step runs, spark-submit and a Python command, and what their exit status means to Airflow."""

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseHook, BaseOperator, Context
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowException, AirflowSkipException, AirflowTaskTimeout

from dags.news import tell_events
from dags.params import refuse_unknown, settings_flags
from jobs.base.errors import EXIT_BAD_DATA
from jobs.pages.addresses import DAILY

log = logging.getLogger(__name__)

REPOSITORY = Path(__file__).resolve().parent.parent
HAND_POOL = "by_hand"  # slots that only actions take; made with the stack
_STEP_NICENESS = 10
HOME = Path(os.environ.get("ESANS_HOME") or REPOSITORY / "var" / "embedded").resolve()


class BadInputError(AirflowException):
    """A step refused its input or its settings; running it again cannot help."""


class StepFailedError(AirflowException):
    """A step ended with another error, which a retry may cure."""


# Bad data fails at once, anything else (a lost machine, a full disk) takes the usual retries with back-off.
RETRY_DEFAULTS: dict[str, Any] = {
    "retries": 2,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": ExceptionRetryPolicy(
        [RetryRule(BadInputError, action=RetryAction.FAIL, reason="bad data or settings: a retry cannot help")]
    ),
}


def give_way() -> None:
    """Lower the priority of this task's processes, so that the components and what a person asks for come first.

    On two cores that two Spark steps kept busy, a rollback took a third longer without this.
    """
    with suppress(OSError):  # it is lower still
        os.setpriority(os.PRIO_PROCESS, 0, max(_STEP_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


class PythonJobOperator(BaseOperator):
    """Runs `python -m jobs.<job> <arguments>` from the repository root, without a shell.

    Args:
        job: module name of the job in `jobs/`.
        arguments: its whole command line (templated); an argument that a template leaves empty is dropped.
        record: the JSON file in which the job says how it ended (templated).
    """

    template_fields: Sequence[str] = ("arguments", "record")
    ui_color = "#e3f1e3"

    def __init__(self, *, job: str, arguments: Sequence[str], record: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job, self.arguments, self.record = job, list(arguments), record
        self._process = JobProcess()

    def execute(self, context: Context) -> None:
        """Run the job; raises `BadInputError` or `StepFailedError` when it does not end well.

        If a run was triggered with a parameter that its DAG does not have, the first task refuses it before any job starts.
        """
        try:
            refuse_unknown(context["dag_run"].conf, list(self.dag.params) if self.has_dag() else [])
            arguments = self.command_arguments(context)
        except ValueError as error:
            _write_record(Path(self.record), "failed", str(error), EXIT_BAD_DATA, 0.0)
            raise BadInputError(str(error)) from error
        if self.pool != HAND_POOL:
            give_way()
        self._process.run(self.job, arguments, self.record, self.variables(context))
        tell_events(self, context)

    def command_arguments(self, context: Context) -> list[str]:
        """The arguments of this run; raises `ValueError` if the settings of the run are refused."""
        return [argument for argument in self.arguments if argument]

    def variables(self, context: Context) -> dict[str, str]:
        """Environment variables for the job of this run alone."""
        return {}

    def on_kill(self) -> None:
        """Stop the job with the task."""
        self._process.stop()


class PrepareOperator(PythonJobOperator):
    """The first step: adds the settings that this run was triggered with as flags.

    Args:
        scheduled: False skips a run that the schedule started. Airflow can backfill only a DAG that has a schedule, so a DAG
            that should run only when somebody asks for it has a schedule too.
    """

    def __init__(self, *, scheduled: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scheduled = scheduled

    def execute(self, context: Context) -> None:
        """Run the job; raises `AirflowSkipException` for a run that nobody asked for."""
        if not self.scheduled and context["dag_run"].run_type == "scheduled":
            raise AirflowSkipException("this DAG works when it is triggered or backfilled, not by its schedule")
        super().execute(context)

    def command_arguments(self, context: Context) -> list[str]:
        """The arguments given, then one flag per setting in the run's conf."""
        try:
            return [*super().command_arguments(context), *settings_flags(context["dag_run"].conf)]
        except ValueError as error:
            raise ValueError(f"settings refused: {error}") from error


class SparkJobOperator(SparkSubmitOperator):
    """Submits `jobs/<name>.py` to the Spark of connection `spark_default`, whose extra may name a `properties-file`.

    If an earlier result of the step is kept, the job is asked first whether that still holds. Then Spark need not start.

    Args:
        job: file name of the job without `.py`.
        arguments: its whole command line (templated).
        record: the JSON file in which the job says how it ended (templated).
        kept: the file that is there if a result of the step is kept (templated); empty if the step keeps none.
    """

    template_fields: Sequence[str] = (*SparkSubmitOperator.template_fields, "record", "kept")
    ui_color = "#fdebd8"

    def __init__(self, *, job: str, arguments: Sequence[str], record: str, kept: str = "", **kwargs: Any) -> None:
        super().__init__(
            application=str(REPOSITORY / "jobs" / f"{job}.py"),
            application_args=list(arguments),
            # The driver's memory is fixed when its JVM starts, so it cannot wait for the job to read its settings.
            conf={"spark.driver.memory": "{{ params['spark.driver_memory'] }}"},
            **({"name": f"esans-{kwargs['task_id']}"} | kwargs),
        )
        self.record, self.kept = record, kept
        self._process = JobProcess()

    def execute(self, context: Context) -> None:
        """Submit and wait; raises `BadInputError` or `StepFailedError` when the job does not end well."""
        before = _Before(self.record)
        give_way()
        if self.kept and Path(self.kept).exists():
            asked = [*(self.application_args or ()), "--only-if-kept"]
            if self._process.status(Path(str(self.application)).stem, asked) == 0:
                tell_events(self, context)
                return
        self.properties_file = BaseHook.get_connection(self._conn_id).extra_dejson.get("properties-file")
        try:
            super().execute(context)
        except AirflowException as error:
            # The exit status of spark-submit; there is none if it never started. In cluster deploy mode it says only that the
            # job failed.
            submit = getattr(self._hook, "_submit_sp", None)
            raise _failure(before, getattr(submit, "returncode", None) or 1) from error
        tell_events(self, context)

    def on_kill(self) -> None:
        """Stop the job with the task."""
        self._process.stop()
        super().on_kill()


class JobProcess:
    """One Python job at a time, as a process that ends with the task."""

    def __init__(self) -> None:
        self._hook: SubprocessHook | None = None

    def run(self, job: str, arguments: Sequence[str], record: str, variables: Mapping[str, str] | None = None) -> None:
        """Run `python -m jobs.<job>`; raises `BadInputError` or `StepFailedError` with the message of its record.

        Args:
            job: module name of the job.
            arguments: its command line.
            record: file in which it says how it ended.
            variables: environment variables besides the task's own.
        """
        before = _Before(record)
        if status := self.status(job, arguments, variables):
            raise _failure(before, status)

    def status(self, job: str, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> int:
        """Run `python -m jobs.<job>`; returns its exit status. The arguments are those of `run`."""
        self._hook = SubprocessHook()
        command = [sys.executable, "-m", f"jobs.{job}", *arguments]
        result = self._hook.run_command(command, env=job_environment(os.environ) | dict(variables or {}), cwd=str(REPOSITORY))
        return int(result.exit_code)

    def stop(self) -> None:
        """Tell the process to end."""
        if self._hook is not None:
            self._hook.send_sigterm()


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: the task's own without Airflow's configuration and connections, which hold secrets."""
    return {name: value for name, value in environment.items() if not name.startswith(("AIRFLOW__", "AIRFLOW_CONN_"))}


def _write_record(path: Path, state: str, message: str, status: int, seconds: float, run: str | None = None) -> None:
    """Leave the record of a step of a date that could not write its own; pages and metrics are made from it."""
    from jobs.base.files import write_json  # it imports Arrow, and reading the DAG file must not wait for that

    if path.parent.name == "steps":
        about = {"step": path.stem, "state": state, "message": message, "summary": {}, "exit_status": status}
        about |= {"reused": False, "why": "", "reads": [], "writes": []}
        about |= {"run": run or os.environ.get("AIRFLOW_CTX_DAG_RUN_ID"), "seconds": round(seconds, 2), "peak_memory_mb": 0}
        write_json(path, about)


def leave_word(context: Context) -> None:
    """Write the record of a failed step that could not write a true one, as the first callback of its failure.

    If the step took longer than its limit, what it could still say of its end is not the cause. If the step's whole Airflow
    worker died, nobody has recorded that; then Airflow's dag-processor calls this. The alert and the pages quote the record.
    """
    record, attempt = Path(getattr(context["task"], "record", "")), context["ti"]
    if isinstance(context.get("exception"), AirflowTaskTimeout):
        message = f"the step took longer than its limit of {context['task'].execution_timeout} and was stopped"
        _speak_for(record, attempt, message, even_if_it_spoke=True)
    else:
        message = "the step left no word; its Airflow worker was killed or had no memory left, or somebody marked it as failed"
        _speak_for(record, attempt, message)


def renew_report(context: Context) -> None:
    """Write the pages of a date whose run has failed, as the callback of a failed step. It never raises."""
    renew_pages(Path(getattr(context["task"], "record", "")).parent.parent)


def renew_report_of_run(context: Context) -> None:
    """The same as the callback of a run that Airflow has ended. A run that failed by one of its steps has done it already."""
    run, last = context.get("dag_run"), context.get("ti")
    if run is not None and context.get("reason") != "task_failure":
        # Airflow names the task at which the run was, without the time at which that began.
        at_work = [Attempt(last.task_id, run.start_date, run.run_id)] if last else []
        end_of_run(run, at_work, "the run took too long or could go no further, and Airflow ended it here")


@dataclass(frozen=True)
class Attempt:
    """A try of a task: name of the task, when the try began, and name of the run."""

    task_id: str
    start_date: datetime | None
    run_id: str


def end_of_run(run: Any, at_work: Iterable[Attempt], why: str) -> None:
    """Write the records of steps that were ended from outside, and the pages of their date. It never raises.

    Args:
        run: the run of Airflow; its `dag_id` and `data_interval_start` are used.
        at_work: the tries of its tasks that may have been at work.
        why: who or what has ended them.
    """
    folder = HOME / "runs" / f"{run.data_interval_start:%Y-%m-%d}"
    if run.dag_id != DAILY or not folder.exists():
        return
    for attempt in at_work:
        if attempt.start_date:
            _speak_for(folder / "steps" / f"{attempt.task_id.rpartition('.')[2]}.json", attempt, why)
    renew_pages(folder)


def _speak_for(record: Path, attempt: Any, message: str, *, even_if_it_spoke: bool = False) -> None:
    """Write a record in place of a step that did not write one in this try."""
    began = attempt.start_date.timestamp() if attempt.start_date else 0.0
    if even_if_it_spoke or not record.exists() or record.stat().st_mtime < began:
        _write_record(record, "killed", message, -signal.SIGKILL, max(0.0, time.time() - began), attempt.run_id)


def renew_pages(folder: Path) -> None:
    """Write the pages of a date whose run has failed. It never raises.

    Args:
        folder: run folder of the date; nothing happens if it is none of the daily retraining.
    """
    if folder.parent != HOME / "runs":
        return
    settings = folder / "settings.json"
    given = ["--settings", str(settings)] if settings.exists() else [f"--date={folder.name}", f"--home={HOME}"]
    try:
        JobProcess().run("report_stopped", given, str(folder / "report_stopped.json"))
    except AirflowException as error:
        log.error("the pages of %s could not be renewed: %s", folder.name, error)


class _Before:
    """How a job's record was before a try, so that what an earlier try wrote is not quoted.

    The times of the file and of the clock are not compared: files are stamped by a coarser clock, and a clock may be set back.
    """

    def __init__(self, record: str) -> None:
        self.path, self.started = Path(record), time.monotonic()
        self._was = self._now()

    def _now(self) -> tuple[int, int, int] | None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def was_renewed(self) -> bool:
        """Whether the record was written since."""
        return self._now() not in (None, self._was)


def _failure(before: _Before, status: int) -> AirflowException:
    """The error of a job that ended badly.

    Args:
        before: the file in which the job says how it ended (its message and, if it got that far, its own exit status), as it
            was before this try.
        status: exit status of the process that was started; it counts if the job left no record.
    """
    path = before.path
    message = (
        f"the process ended with status {status} before it could say why; it was killed, or its machine had no memory left"
    )
    if before.was_renewed():
        said = json.loads(path.read_text())
        message, status = said["message"], said.get("exit_status") or status
    elif status == EXIT_BAD_DATA:
        message = "it refused its settings; the lines above in the log say which"
        _write_record(path, "failed", message, status, time.monotonic() - before.started)
    else:
        _write_record(path, "killed", message, status, time.monotonic() - before.started)
    kind = BadInputError if status == EXIT_BAD_DATA else StepFailedError
    return kind(f"{path.stem} ended with exit status {status}: {message}")
