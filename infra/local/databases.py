"""Where a stack keeps its tables: PostgreSQL where the machine has it, SQLite files where not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local import postgres
from infra.local.daemons import postgres_log
from infra.local.ports import Ports

_AIRFLOW, _MLFLOW, _USERS = "airflow", "mlflow", "mlflow_users"


@dataclass(frozen=True)
class Databases:
    """SQLAlchemy's addresses of Airflow's tables, of MLflow's runs and models, and of its users; `port` of PostgreSQL."""

    airflow: str
    mlflow: str
    users: str
    port: int | None


def start_databases(home: Path, password: str, kept: Ports | None, say: Callable[[str], None]) -> Databases:
    """Start PostgreSQL, or name the files of SQLite; a home stays with what it has begun with.

    Args:
        home: the home folder.
        password: of PostgreSQL's role.
        kept: where the home's stack was before, None for a new one.
        say: gets a line where there is no PostgreSQL.
    """
    if kept.postgres if kept else postgres.installed():
        server = postgres.Postgres(home / "postgres", password, postgres_log(home))
        port = server.start(kept.postgres if kept else None)
        server.ensure_databases(port, (_AIRFLOW, _MLFLOW, _USERS))
        airflow, mlflow, users = (server.uri(port, name) for name in (_AIRFLOW, _MLFLOW, _USERS))
        return Databases(airflow, mlflow, users, port)
    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    say("no PostgreSQL on this machine: Airflow and MLflow keep their tables in SQLite files, which is slower with many tasks")
    return Databases(
        airflow=f"sqlite:///{home / 'airflow' / 'airflow.db'}?timeout=60",
        mlflow=f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
        users=f"sqlite:///{home / 'mlflow' / 'users.db'}",
        port=None,
    )
