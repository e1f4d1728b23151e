"""Starts the processes of a stack, Airflow's own among them, each with a log, and watches them while one waits."""

import datetime as dt
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from infra.local.client import AirflowClient
from infra.local.environment import GPU_SLOTS, HAND_SLOTS, PARALLEL_STEPS, REPOSITORY
from infra.local.processes import StackError, tail

# Pools of Airflow: what they are called in `dags/steps.py`, how many slots they have at first, and for what.
POOLS = (
    ("gpu", GPU_SLOTS, "Tasks that take a whole accelerator: one at a time"),
    ("by_hand", HAND_SLOTS, "Actions that a person asks for, such as a rollback: never behind a step"),
)
_START_SECONDS = 180.0  # a start takes 12 s on two idle cores, and far more only if the machine is busy
# If a runner is killed outright, its components are told to end. The scheduler first waits for its running tasks, so it may
# outlive the runner by minutes. So the next run of the home still ends the processes that it finds.
_END_WITH_PARENT = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()


class Components:
    """Processes of one home, each with its log in `<home>/airflow/logs/components`.

    They end when this process ends. `infra.local.supervised.Supervised` keeps them running.

    Args:
        folder: `<home>/airflow`.
        environment: environment of every process, unless `spawn` gets another.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self.logs = folder / "logs" / "components"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def run(self, *command: str) -> None:
        """Run a Python module to its end; raises `StackError` with the end of its log when it fails."""
        log = self.log(command[1] if len(command) > 1 else command[0])
        with log.open("wb") as stream:
            done = subprocess.run(
                [sys.executable, "-m", *command],
                env=self._environment,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                check=False,
            )
        if done.returncode:
            raise StackError(f"`{' '.join(command)}` failed; see {log}\n{tail(log)}")

    def spawn(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a Python module and leave it running under a name."""
        with self.log(name).open("wb") as stream:
            self.running[name] = subprocess.Popen(
                [*_END_WITH_PARENT, sys.executable, "-m", *command],
                env=self._environment if environment is None else dict(environment),
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches only the runner, which then stops everything in order
            )

    def check(self) -> None:
        """Raise `StackError` if a process has ended, with the end of its log."""
        for name, process in self.running.items():
            if process.poll() is not None:
                log = self.log(name)
                raise StackError(f"the {name} ended with status {process.returncode}; see {log}\n{tail(log)}")

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until `ready`; raises `StackError` when a component ends or it takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise StackError(f"{what} was not ready after {_START_SECONDS:.0f} s; see the logs in {self.logs}")
            time.sleep(0.3)

    def log(self, name: str) -> Path:
        """The log file of the component of that name."""
        return self.logs / f"{name}.log"


def start_airflow(
    components: Components,
    client: AirflowClient,
    *,
    sqlite: Path | None,
    triggerer: bool,
    before_scheduling: Callable[[], None] = lambda: None,
) -> None:
    """Start Airflow's components and wait until the DAG is parsed anew and all of them are healthy.

    Args:
        components: what they are started with.
        client: client of the api-server that is started here.
        sqlite: file of Airflow's database, if that is SQLite.
        triggerer: whether to start the triggerer, which deferred tasks need.
        before_scheduling: called when the api-server answers and no scheduler works yet.
    """
    components.run("airflow", "db", "migrate")
    if sqlite:
        with sqlite3.connect(sqlite) as database:
            database.execute("PRAGMA journal_mode=WAL")  # readers do not wait for writers; the file keeps this mode
    since = dt.datetime.now(dt.UTC)
    for name in ("api-server", "dag-processor"):
        components.spawn(name, "airflow", name)
    components.wait("the api-server", lambda: "metadatabase" in client.health())
    for name, slots, description in POOLS:
        client.ensure_pool(name, slots, description)
    client.limit_default_pool(PARALLEL_STEPS)
    before_scheduling()
    components.spawn("scheduler", "airflow", "scheduler", "--skip-serve-logs")
    if triggerer:
        components.spawn("triggerer", "airflow", "triggerer", "--skip-serve-logs")
    components.wait("the DAG", lambda: _parsed_since(client, since))
    wanted = {"metadatabase", "scheduler", "dag_processor"} | ({"triggerer"} if triggerer else set())
    components.wait("Airflow", lambda: wanted <= {name for name, state in client.health().items() if state == "healthy"})


def _parsed_since(client: AirflowClient, since: dt.datetime) -> bool:
    dag = client.dag()
    if dag is None or dag.get("has_import_errors"):
        if errors := client.import_errors():
            raise StackError(f"the DAG cannot be imported:\n{errors[0]}")
        return False
    parsed = dag.get("last_parsed_time")
    return parsed is not None and dt.datetime.fromisoformat(parsed) >= since
