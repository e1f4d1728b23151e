"""The addresses of a home's stack, kept so that they are the same after each start."""

import json
from dataclasses import dataclass
from pathlib import Path

from infra.local.environment import write_private


@dataclass(frozen=True)
class Ports:
    """Loopback ports of a stack, the same after each start.

    `postgres` is None where the databases are SQLite files, and `reports` is None in a home that an earlier release had up.
    """

    airflow: int
    mlflow: int
    postgres: int | None
    reports: int | None = None

    @property
    def airflow_url(self) -> str:
        """Where Airflow's pages and its REST interface are."""
        return f"http://127.0.0.1:{self.airflow}"

    @property
    def mlflow_url(self) -> str:
        """Where MLflow's pages are; also its tracking URI."""
        return f"http://127.0.0.1:{self.mlflow}"

    @property
    def reports_url(self) -> str:
        """Where the reports are."""
        return f"http://127.0.0.1:{self.reports}"

    def keep(self, home: Path) -> None:
        """Remember these ports for the home."""
        write_private(_path(home), json.dumps(vars(self)))

    @staticmethod
    def of(home: Path) -> "Ports | None":
        """The ports of a home, or None if it has never been up."""
        path = _path(home)
        return Ports(**json.loads(path.read_text())) if path.exists() else None


def _path(home: Path) -> Path:
    return home / "airflow" / "ports.json"
