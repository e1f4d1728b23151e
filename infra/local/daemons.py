"""Keeps track of the processes that `make up` leaves running for a home: remembers, finds and stops them."""

import json
import time
from contextlib import suppress
from pathlib import Path

import psutil

from infra.local.environment import MARKER, load_secrets, write_private
from infra.local.postgres import Postgres
from infra.local.processes import end_processes
from infra.local.supervised import supervised_processes

_LET_GO_SECONDS = 45.0
_STOP_SECONDS = 90.0  # for all components, one after the other


def remember_supervisor(home: Path, number: int) -> None:
    """Remember supervisord by number and start time, so that a later process with the same number does not count."""
    write_private(_path(home), json.dumps([number, psutil.Process(number).create_time()]))


def supervisor_of(home: Path) -> psutil.Process | None:
    """The supervisord of a home, or None if it does not run."""
    with suppress(OSError, ValueError, psutil.Error):
        number, created = json.loads(_path(home).read_text())
        process = psutil.Process(number)
        # A copy of a home remembers the process of the home that it was copied from; that one is not its own.
        own = process.environ().get(MARKER) == str(home)
        if own and process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


def daemons_of(home: Path) -> dict[str, psutil.Process]:
    """The components that run now under the supervisord of a home, by name."""
    supervisor = supervisor_of(home)
    return {} if supervisor is None else supervised_processes(supervisor)


def database_of(home: Path) -> Postgres | None:
    """The PostgreSQL cluster of a home, or None where it has none."""
    folder = home / "postgres"
    if not folder.exists():
        return None
    return Postgres(folder, load_secrets(home / "airflow")["postgres_password"], postgres_log(home))


def postgres_log(home: Path) -> Path:
    """The log of PostgreSQL and its tools."""
    logs = home / "airflow" / "logs" / "components"
    logs.mkdir(parents=True, exist_ok=True)
    return logs / "postgres.log"


def stop_daemons(home: Path) -> bool:
    """Stop everything of a home in good order, tasks first and the database last; False if nothing was running."""
    if supervisor := supervisor_of(home):
        _let_go(supervisor)
    ended = end_processes(home)
    database = database_of(home)
    stopped = database.stop() if database else False
    _path(home).unlink(missing_ok=True)
    return stopped or ended > 0 or supervisor is not None


def _let_go(supervisor: psutil.Process) -> None:
    """End the components, the scheduler first, with the tasks at work, while the api-server can still hear how they ended.

    A task that is told to end stops its job. It is tried again after the next start, as after the loss of a machine.
    """
    components = supervised_processes(supervisor)
    scheduler = components.pop("scheduler", None)
    with suppress(psutil.Error):
        workers = (
            scheduler.children() if scheduler else []
        )  # of the LocalExecutor; each has the task it works on as its only child
        supervisor.terminate()  # it stops what started last first, which is the scheduler, and starts nothing again
        if scheduler:
            _end_tasks(scheduler, workers)
        for process in components.values():
            with suppress(psutil.Error):
                process.terminate()
        psutil.wait_procs([supervisor], timeout=_STOP_SECONDS)


def _end_tasks(scheduler: psutil.Process, workers: list[psutil.Process]) -> None:
    """Tell the tasks to end until the scheduler has ended; kill it if that takes too long."""
    told: set[psutil.Process] = set()
    deadline = time.monotonic() + _LET_GO_SECONDS
    while scheduler.is_running() and scheduler.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            scheduler.kill()
        for worker in workers:
            with suppress(psutil.Error):
                for task in set(worker.children()) - told:
                    told.add(task)
                    task.terminate()
        psutil.wait_procs([scheduler], timeout=0.5)


def _path(home: Path) -> Path:
    return home / "airflow" / "supervisor.json"
