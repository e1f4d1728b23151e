"""Keeps track of the processes that `make up` leaves running for a home: remembers, finds and stops them."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from infra.local.environment import MARKER, load_secrets, write_private
from infra.local.postgres import Postgres
from infra.local.processes import end_processes

_LET_GO_SECONDS = 45.0


def remember_daemons(home: Path, numbers: Mapping[str, int]) -> None:
    """Remember each process by name, number and start time, so that a later process with the same number does not count."""
    daemons = {name: [number, psutil.Process(number).create_time()] for name, number in numbers.items()}
    write_private(_path(home), json.dumps(daemons))


def daemons_of(home: Path) -> dict[str, psutil.Process]:
    """The remembered processes that still live, by name."""
    if not _path(home).exists():
        return {}
    alive = {}
    for name, (number, created) in json.loads(_path(home).read_text()).items():
        with suppress(psutil.Error):
            process = psutil.Process(number)
            # A copy of a home remembers the processes of the home that it was copied from; those are not its own.
            own = process.environ().get(MARKER) == str(home)
            if own and process.create_time() == created and process.status() != psutil.STATUS_ZOMBIE:
                alive[name] = process
    return alive


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
    if scheduler := daemons_of(home).get("scheduler"):
        _let_go(scheduler)
    ended = end_processes(home)
    database = database_of(home)
    stopped = database.stop() if database else False
    _path(home).unlink(missing_ok=True)
    return stopped or ended > 0


def _let_go(scheduler: psutil.Process) -> None:
    """End the scheduler and the tasks at work, while the api-server can still hear from them how they ended.

    A task that is told to end stops its job. It is tried again after the next start, as after the loss of a machine.
    """
    told: set[psutil.Process] = set()
    deadline = time.monotonic() + _LET_GO_SECONDS
    with suppress(psutil.Error):
        workers = scheduler.children()  # of the LocalExecutor; each has the task it works on as its only child
        scheduler.terminate()
        while scheduler.is_running() and scheduler.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            for worker in workers:
                with suppress(psutil.Error):
                    for task in set(worker.children()) - told:
                        told.add(task)
                        task.terminate()
            psutil.wait_procs([scheduler], timeout=0.5)


def _path(home: Path) -> Path:
    return home / "airflow" / "daemons.json"
