"""The components of Airflow on one machine, from start to stop, and one DAG run at a time on them."""

import datetime as dt
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from infra.local.client import AirflowClient, ApiError
from infra.local.components import Components, start_airflow
from infra.local.daemons import supervisor_of
from infra.local.environment import REPOSITORY, load_secrets, stack_environment
from infra.local.processes import StackError, end_processes, exclusive, free_port
from infra.local.progress import RunResult, Watch
from infra.local.spark_archive import java_options
from infra.local.spark_cluster import cluster_properties
from jobs.pages.addresses import DAILY

_FINISHED = ("success", "failed")
_BY = "make run"
_PUBLISHED_BY = ("registry", "bundle", "serving")  # settings that a publication reads


class LocalStack:
    """Airflow for one home folder; a context manager that leaves no process behind, however the block ends.

    Args:
        home: the pipeline's home folder; Airflow's own files go to `<home>/airflow`.
        spark_master: Spark master for the connection `spark_default`; None leaves it to the environment.
        say: gets each line of progress.

    Raises:
        StackError: the home is in use, or a component does not come up.
    """

    def __init__(self, home: Path, *, spark_master: str | None = None, say: Callable[[str], None] = print) -> None:
        self.home = home.expanduser().resolve()
        self.folder = self.home / "airflow"
        self._say = say
        port = free_port()
        properties = cluster_properties(spark_master) if spark_master else None
        self._environment = stack_environment(self.home, port, spark_master=spark_master, spark_properties=properties)
        self.url = f"http://127.0.0.1:{port}"
        self.client = AirflowClient(self.url, load_secrets(self.folder)["password"])
        self._exits = ExitStack()

    def __enter__(self) -> "LocalStack":
        self._exits.enter_context(exclusive(self.home))
        try:
            self._refuse_daemons()
            self._exits.callback(end_processes, self.home)
            self._start()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._exits.close()

    def run(self, date: dt.date, conf: Mapping[str, Any]) -> RunResult:
        """Run the DAG for one logical date and wait for its end.

        A run of that date with the same conf is run again; one with another conf, or that Airflow fails to clear, is replaced.

        Raises:
            ApiError: Airflow refuses the conf.
            StackError: a component died.
        """
        try:
            return self._run(date, conf)
        except requests.ConnectionError:
            self._components.check()  # the api-server does not answer: if it has ended, this says why
            raise

    def publish(self, date: dt.date, conf: Mapping[str, Any]) -> dict[str, Any]:
        """Put the champion's bundle in force, as the DAG `esans_publish` does where Airflow stays up.

        Args:
            date: logical date of the run that promoted it; it is part of the record's name.
            conf: conf of that run. What it says of the registry and of bundles holds here too.

        Returns:
            The record of the command: `state`, `message` and `summary`.

        Raises:
            StackError: the command left no record.
        """
        action = f"run-{date.isoformat()}"
        record = self.home / "actions" / action / "publish_champion.json"
        record.unlink(missing_ok=True)
        command = [sys.executable, "-m", "jobs.publish_champion", "--home", str(self.home), "--action", action, "--by", _BY]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=self._environment | _variables(conf), capture_output=True, text=True, check=False
        )
        if not record.exists():
            raise StackError(f"the champion could not be published: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
        return dict(json.loads(record.read_text()))

    def _run(self, date: dt.date, conf: Mapping[str, Any]) -> RunResult:
        run_id, started = f"local__{date.isoformat()}", time.time()
        for old in self.client.runs(date=date):
            if dict(old["conf"] or {}) == dict(conf) and old["dag_run_id"] == run_id:
                self._say(f"{date} has been run before with the same settings: running all its steps again")
                if self._cleared(run_id):
                    break
                self._say("Airflow failed to clear that run: it is replaced")
            else:
                self._say(f"{date} has been run before with other settings: that run is replaced")
            self._forget(old)
        else:
            self.client.trigger(run_id, date, dict(conf))
        logs = self.folder / "logs" / f"dag_id={DAILY}" / f"run_id={run_id}"
        records = self.home / "runs" / date.isoformat() / "steps"
        return Watch(self.client, run_id, logs, records, self._say, started).until_done(self._components.check)

    def _start(self) -> None:
        if ended := end_processes(self.home):
            self._say(f"ended {ended} processes that an earlier run had left behind")
        if (self.home / "postgres").exists():
            self._say(
                "the model registry of `make up` in this home is not the one of `make run`: neither sees the other's models"
            )
        if "JDK_JAVA_OPTIONS" not in self._environment:  # what the caller says about Java wins
            self._environment["JDK_JAVA_OPTIONS"] = java_options(self._environment, self._say)
        started = time.monotonic()
        self._components = Components(self.folder, self._environment)
        start_airflow(
            self._components,
            self.client,
            sqlite=self.folder / "airflow.db",
            triggerer=False,
            before_scheduling=self._end_unfinished,
        )
        self.client.unpause()
        self._say(f"Airflow is up at {self.url} after {time.monotonic() - started:.0f} s (logs in {self.folder / 'logs'})")

    def _refuse_daemons(self) -> None:
        if supervisor_of(self.home):
            raise StackError(
                f"`make up` serves {self.home}: start a run from its form (`make status` has the address), or stop it with "
                "`make down`."
            )

    def _end_unfinished(self) -> None:
        """End runs that were cut short: they would go on by themselves as soon as there is a scheduler."""
        for unfinished in self.client.runs(unfinished=True) if self.client.dag() else ():
            self.client.fail(unfinished["dag_run_id"])

    def _cleared(self, run_id: str) -> bool:
        """Clear a run; False if Airflow fails, as it does if version 0.2 queued the run (apache/airflow #70368)."""
        try:
            self.client.clear(run_id)
        except ApiError as error:
            if error.status < 500:
                raise
            return False
        return True

    def _forget(self, run: Mapping[str, Any]) -> None:
        if run["state"] not in _FINISHED:
            self.client.fail(run["dag_run_id"])
        self.client.delete(run["dag_run_id"])
        shutil.rmtree(self.folder / "logs" / f"dag_id={DAILY}" / f"run_id={run['dag_run_id']}", ignore_errors=True)


def _variables(conf: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a conf that a publication reads, as environment variables."""
    return {
        f"ESANS_{name.upper().replace('.', '__')}": value if isinstance(value, str) else json.dumps(value)
        for name, value in conf.items()
        if name.split(".")[0] in _PUBLISHED_BY
    }
