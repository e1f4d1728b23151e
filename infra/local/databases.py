"""Where a stack keeps its tables: in PostgreSQL if the machine has it, and otherwise in SQLite files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.local import postgres
from infra.local.daemons import postgres_log
from infra.local.ports import Ports
from infra.local.supervised import Supervised

_AIRFLOW, _MLFLOW, _USERS = "airflow", "mlflow", "mlflow_users"


@dataclass(frozen=True)
class Databases:
    """SQLAlchemy's addresses of Airflow's tables, of MLflow's runs and models, and of MLflow's users; port of PostgreSQL."""

    airflow: str
    mlflow: str
    users: str
    port: int | None


def start_databases(
    home: Path, password: str, kept: Ports | None, components: Supervised, say: Callable[[str], None]
) -> Databases:
    """Start PostgreSQL, or name the files of SQLite. A home keeps the kind of database that it began with.

    Args:
        home: the home folder.
        password: password of PostgreSQL's role.
        kept: ports that the home's stack had before; None for a new one.
        components: keep PostgreSQL running.
        say: gets a line if there is no PostgreSQL.
    """
    if kept.postgres if kept else postgres.installed():
        server = postgres.Postgres(home / "postgres", password, postgres_log(home))
        port = server.prepare(kept.postgres if kept else None)
        components.spawn_database(*server.command(port))
        components.wait("PostgreSQL", lambda: server.answers(port))
        server.ensure_databases(port, (_AIRFLOW, _MLFLOW, _USERS))
        airflow, mlflow, users = (server.uri(port, name) for name in (_AIRFLOW, _MLFLOW, _USERS))
        return Databases(airflow, mlflow, users, port)
    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    say("this machine has no PostgreSQL: Airflow and MLflow use SQLite files for their tables, which is slower with many tasks")
    return Databases(
        airflow=f"sqlite:///{home / 'airflow' / 'airflow.db'}?timeout=60",
        mlflow=f"sqlite:///{home / 'mlflow' / 'mlflow.db'}",
        users=f"sqlite:///{home / 'mlflow' / 'users.db'}",
        port=None,
    )
