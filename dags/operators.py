"""The two ways a step runs, spark-submit and a Python command, and what their exit status means to Airflow."""

import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import Asset, BaseHook, BaseOperator, Context
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowException

from dags.params import settings_flags
from jobs.errors import EXIT_BAD_DATA

REPOSITORY = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("ESANS_HOME") or REPOSITORY / "var" / "embedded").resolve()
SETTINGS_FILE = f"{HOME}/runs/{{{{ ds }}}}/settings.json"

_SPARK_STATUS = re.compile(r"Error code is: (\d+)\.")


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


class PythonJobOperator(BaseOperator):
    """Runs `python -m jobs.<job> <arguments>` from the repository root, without a shell.

    Args:
        job: module name of the job in `jobs/`.
        arguments: its whole command line (templated).
    """

    template_fields: Sequence[str] = ("arguments",)
    ui_color = "#e3f1e3"

    def __init__(self, *, job: str, arguments: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job, self.arguments = job, list(arguments)
        self._hook: SubprocessHook | None = None

    def execute(self, context: Context) -> None:
        """Run the job; raises `BadInputError` or `StepFailedError` when it does not end well."""
        started = time.time()
        self._hook = SubprocessHook()
        command = [sys.executable, "-m", f"jobs.{self.job}", *self.command_arguments(context)]
        result = self._hook.run_command(command, env=job_environment(os.environ), cwd=str(REPOSITORY))
        if result.exit_code:
            raise _failure(self.task_id, context, result.exit_code, started)

    def command_arguments(self, context: Context) -> list[str]:
        """The arguments of this run; raises `BadInputError` when the run cannot be turned into any."""
        return self.arguments

    def on_kill(self) -> None:
        """Stop the job with the task."""
        if self._hook is not None:
            self._hook.send_sigterm()


class PrepareOperator(PythonJobOperator):
    """The first step: adds the settings that this run was triggered with as flags."""

    def command_arguments(self, context: Context) -> list[str]:
        """The arguments given, then one flag per setting in the run's conf."""
        try:
            return [*self.arguments, *settings_flags(context["dag_run"].conf)]
        except ValueError as error:
            raise BadInputError(f"settings refused: {error}") from error


class SparkJobOperator(SparkSubmitOperator):
    """Submits `jobs/<name>.py` to the Spark of connection `spark_default`, whose extra may name a `properties-file`.

    Args:
        job: file name of the job without `.py`.
        arguments: its whole command line (templated).
    """

    ui_color = "#fdebd8"

    def __init__(self, *, job: str, arguments: Sequence[str], **kwargs: Any) -> None:
        super().__init__(
            application=str(REPOSITORY / "jobs" / f"{job}.py"),
            application_args=list(arguments),
            # The driver's memory is fixed when its JVM starts, so it cannot wait for the job to read its settings.
            conf={"spark.driver.memory": "{{ params['spark.driver_memory'] }}"},
            **({"name": f"esans-{kwargs['task_id']}"} | kwargs),
        )

    def execute(self, context: Context) -> None:
        """Submit and wait; raises `BadInputError` or `StepFailedError` when the job does not end well."""
        started = time.time()
        self.properties_file = BaseHook.get_connection(self._conn_id).extra_dejson.get("properties-file")
        try:
            super().execute(context)
        except AirflowException as error:
            status = _SPARK_STATUS.search(str(error))
            raise _failure(self.task_id, context, int(status[1]) if status else 1, started) from error


def step(
    kind: type[PythonJobOperator] | type[SparkJobOperator],
    name: str,
    doc: str,
    *,
    job: str | None = None,
    choice: str | None = None,
    reads: Sequence[Asset] = (),
    writes: Sequence[Asset] = (),
    hours: float = 0.5,
) -> PythonJobOperator | SparkJobOperator:
    """One step of the pipeline, run with the settings that `prepare` froze for the date.

    Args:
        kind: how it runs.
        name: task id, and name of the step's record.
        doc: what the step does, shown beside the task.
        job: the job in `jobs/`; the name of the step unless given.
        choice: positional argument of the job.
        reads: assets it reads.
        writes: assets it writes.
        hours: when it is stopped.
    """
    return kind(
        task_id=name,
        job=job or name,
        arguments=[*([choice] if choice else []), "--settings", SETTINGS_FILE],
        doc_md=doc,
        inlets=list(reads),
        outlets=list(writes),
        execution_timeout=timedelta(hours=hours),
    )


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: the task's own without Airflow's configuration, which holds its secrets."""
    return {name: value for name, value in environment.items() if not name.startswith("AIRFLOW__")}


def _failure(task_id: str, context: Context, status: int, started: float) -> AirflowException:
    step = task_id.rsplit(".", 1)[-1]
    record = HOME / "runs" / context["ds"] / "steps" / f"{step}.json"
    message = "no message was recorded; see the lines above"
    if record.exists() and record.stat().st_mtime >= started:
        message = json.loads(record.read_text())["message"]
    kind = BadInputError if status == EXIT_BAD_DATA else StepFailedError
    return kind(f"{step} ended with exit status {status}: {message}")
