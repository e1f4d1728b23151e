"""Says which parts of a home's stack are up: whether their processes live, and whether they answer."""

import datetime as dt
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.local.client import AirflowClient
from infra.local.daemons import daemons_of, database_of, supervisor_of
from infra.local.environment import load_secrets
from infra.local.mlflow_server import mlflow_answers
from infra.local.ports import Ports
from infra.local.report_server import reports_answer
from infra.local.standing import disk_of, standing
from infra.local.supervised import watch_of

# Name of a component, and its name in Airflow's own report of health.
AIRFLOW_COMPONENTS = {
    "api-server": "metadatabase",
    "scheduler": "scheduler",
    "dag-processor": "dag_processor",
    "triggerer": "triggerer",
}
_API_SERVER = "Airflow api-server"


@dataclass(frozen=True)
class Component:
    """One part of a stack.

    Attributes:
        name: what it is.
        address: where it answers; '' if it has no address.
        state: `up`, `not well` (its process lives but does not answer as it should) or `down`.
        pid: number of its process.
        since: when that started.
        memory_mb: memory of its process and all below it; shared pages are counted once.
    """

    name: str
    address: str
    state: str
    pid: int | None = None
    since: dt.datetime | None = None
    memory_mb: int = 0


@dataclass(frozen=True)
class Status:
    """A stack as it is now.

    Attributes:
        components: all its parts; none for a home that has never been up.
        standing: what else is to be told of the home, as pairs of a name and a sentence.
        disk_lasts: whether the disk has room for another date.
    """

    components: tuple[Component, ...]
    standing: tuple[tuple[str, str], ...] = ()
    disk_lasts: bool = True

    @property
    def exit_code(self) -> int:
        """0: all parts are up and the disk lasts, 3: no part is up, 1: anything else."""
        if all(component.state == "down" for component in self.components):
            return 3
        return 0 if all_up(self.components) and self.disk_lasts else 1

    def __str__(self) -> str:
        lines = [] if self.disk_lasts else ["THE DISK IS NEARLY FULL: make room before the next date"]
        for part in self.components:
            since = f"pid {part.pid}, since {part.since:%Y-%m-%d %H:%M:%S}, {part.memory_mb} MB" if part.since else ""
            lines.append(f"{part.name:<22} {part.state:<9} {part.address:<24} {since}".rstrip())
        lines += [f"{name:<22} {sentence}" for name, sentence in self.standing]
        return "\n".join(lines)


def all_up(components: Collection[Component]) -> bool:
    """Whether there are parts, and all of them are up."""
    return {component.state for component in components} == {"up"}


def status(home: Path) -> Status:
    """Look at every part of the stack of a home, and at what else a person wants to know of it."""
    home = home.expanduser().resolve()
    ports, parts = Ports.of(home), components(home)
    if ports is None:
        return Status(())
    airflow = next(part for part in parts if part.name == _API_SERVER)
    client = AirflowClient(ports.airflow_url, load_secrets(home / "airflow")["password"]) if airflow.state == "up" else None
    disk = disk_of(home)
    return Status(parts, tuple(standing(home, client, disk)), disk.days is None or disk.days >= 1)


def components(home: Path) -> tuple[Component, ...]:
    """Look at every part of the stack of a home; none if it has never been up."""
    home = home.expanduser().resolve()
    ports = Ports.of(home)
    if ports is None:
        return ()
    daemons, parts = daemons_of(home), []
    supervisor = supervisor_of(home)
    parts.append(_component("supervisor", "", supervisor, supervisor is not None, alone=True))
    watch = watch_of(supervisor) if supervisor else None
    parts.append(_component("alerts", "", watch, watch is not None))
    database = database_of(home) if ports.postgres else None
    if database and ports.postgres:
        process, address = database.process, f"127.0.0.1:{ports.postgres}"
        parts.append(_component("PostgreSQL", address, process, process is not None and database.answers(ports.postgres)))
    process, keys = daemons.get("mlflow"), load_secrets(home / "airflow")
    answers = process is not None and mlflow_answers(ports.mlflow, keys["mlflow_password"])
    parts.append(_component("MLflow", ports.mlflow_url, process, answers))
    process, answers = daemons.get("reports"), False
    if process is not None and ports.reports:
        answers = reports_answer(ports.reports, keys["password"])
    parts.append(_component("reports", ports.reports_url, process, answers))
    health = AirflowClient(ports.airflow_url, keys["password"]).health() if "api-server" in daemons else {}
    for name, reported in AIRFLOW_COMPONENTS.items():
        address = ports.airflow_url if name == "api-server" else ""
        parts.append(_component(f"Airflow {name}", address, daemons.get(name), health.get(reported) == "healthy"))
    return tuple(parts)


def _component(name: str, address: str, process: psutil.Process | None, healthy: bool, *, alone: bool = False) -> Component:
    if process is None:
        return Component(name, address, "down")
    memory = 0
    try:
        since = dt.datetime.fromtimestamp(process.create_time()).astimezone()
        tree = [process] if alone else [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return Component(name, address, "down")
    for each in tree:
        with suppress(psutil.Error):  # gone meanwhile
            memory += each.memory_full_info().pss
    return Component(name, address, "up" if healthy else "not well", process.pid, since, memory // 2**20)
