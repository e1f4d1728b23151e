"""The components of Airflow on one machine, from start to stop, and one DAG run at a time on them."""

import datetime as dt
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from infra.local.client import DAG_ID, AirflowClient
from infra.local.environment import REPOSITORY, load_secrets, stack_environment
from infra.local.processes import StackError, end_processes, exclusive, free_port, tail
from infra.local.progress import RunResult, Watch
from infra.local.spark_archive import java_options
from infra.local.spark_cluster import cluster_properties

_START_SECONDS = 180.0  # 12 s on two idle cores; far more only where the machine is busy
_FINISHED = ("success", "failed")
# A runner that is killed outright tells its components to end; the scheduler first waits for its running tasks and may
# outlive that by minutes, so the next run of the home still ends what it finds.
_END_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()


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
        self._components: dict[str, subprocess.Popen[bytes]] = {}
        self._exits = ExitStack()

    def __enter__(self) -> "LocalStack":
        self._exits.enter_context(exclusive(self.home))
        self._exits.callback(end_processes, self.home)
        try:
            self._start()
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._exits.close()

    def run(self, date: dt.date, conf: Mapping[str, Any]) -> RunResult:
        """Run the DAG for one logical date and wait for its end.

        A run of that date with the same conf is run again; one with another conf is replaced.

        Raises:
            ApiError: Airflow refuses the conf.
            StackError: a component died.
        """
        run_id, started = f"local__{date.isoformat()}", time.time()
        for old in self.client.runs(date=date):
            if dict(old["conf"] or {}) == dict(conf) and old["dag_run_id"] == run_id:
                self._say(f"{date} has been run before with the same settings: running all its steps again")
                self.client.clear(run_id)
                break
            self._say(f"{date} has been run before with other settings: that run is replaced")
            self._forget(old)
        else:
            self.client.trigger(run_id, date, dict(conf))
        logs = self.folder / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}"
        records = self.home / "runs" / date.isoformat() / "steps"
        return Watch(self.client, run_id, logs, records, self._say, started).until_done(self._check_components)

    def _start(self) -> None:
        if ended := end_processes(self.home):
            self._say(f"ended {ended} processes that an earlier run had left behind")
        if "JDK_JAVA_OPTIONS" not in self._environment:  # what the caller says about Java wins
            self._environment["JDK_JAVA_OPTIONS"] = java_options(self._environment, self._say)
        started = time.monotonic()
        self._airflow("db", "migrate")
        with sqlite3.connect(self.folder / "airflow.db") as database:
            database.execute("PRAGMA journal_mode=WAL")  # readers do not wait for writers; kept in the file
        since = dt.datetime.now(dt.UTC)
        self._spawn("api-server")
        self._spawn("dag-processor")
        self._wait("the api-server", lambda: "metadatabase" in self.client.health())
        # A run that was cut short would go on by itself as soon as there is a scheduler.
        for unfinished in self.client.runs(unfinished=True) if self.client.dag() else ():
            self.client.fail(unfinished["dag_run_id"])
        self._spawn("scheduler", "--skip-serve-logs")
        self._wait("the DAG", lambda: self._parsed_since(since))
        self.client.unpause()
        self._wait("the scheduler", lambda: self.client.health().get("scheduler") == "healthy")
        self._say(f"Airflow is up at {self.url} after {time.monotonic() - started:.0f} s (logs in {self.folder / 'logs'})")

    def _parsed_since(self, since: dt.datetime) -> bool:
        dag = self.client.dag()
        if dag is None or dag.get("has_import_errors"):
            if errors := self.client.import_errors():
                raise StackError(f"the DAG cannot be imported:\n{errors[0]}")
            return False
        parsed = dag.get("last_parsed_time")
        return parsed is not None and dt.datetime.fromisoformat(parsed) >= since

    def _forget(self, run: Mapping[str, Any]) -> None:
        if run["state"] not in _FINISHED:
            self.client.fail(run["dag_run_id"])
        self.client.delete(run["dag_run_id"])
        shutil.rmtree(self.folder / "logs" / f"dag_id={DAG_ID}" / f"run_id={run['dag_run_id']}", ignore_errors=True)

    def _airflow(self, *arguments: str) -> None:
        log = self._log(arguments[0])
        with log.open("wb") as stream:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", *arguments],
                env=self._environment,
                cwd=REPOSITORY,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise StackError(f"`airflow {' '.join(arguments)}` failed; see {log}\n{tail(log)}")

    def _spawn(self, name: str, *arguments: str) -> None:
        with self._log(name).open("wb") as stream:
            self._components[name] = subprocess.Popen(
                [*_END_WITH_PARENT, sys.executable, "-m", "airflow", name, *arguments],
                env=self._environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only the runner, which then stops everything in order
            )

    def _check_components(self) -> None:
        for name, process in self._components.items():
            if process.poll() is not None:
                log = self._log(name)
                raise StackError(f"the {name} ended with status {process.returncode}; see {log}\n{tail(log)}")

    def _wait(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            self._check_components()
            if time.monotonic() > deadline:
                raise StackError(f"{what} was not ready after {_START_SECONDS:.0f} s; see the logs in {self.folder / 'logs'}")
            time.sleep(0.3)

    def _log(self, name: str) -> Path:
        folder = self.folder / "logs" / "components"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"
