"""The MLflow server of a stack. It asks for a password, keeps its tables in a database and hands out artefacts itself."""

from collections.abc import Mapping
from pathlib import Path

import requests

from infra.local.environment import USER, write_private

# A password is meant to be slow to check (0.2 s of a core), and every request carries one. So a right one is remembered for
# five minutes. The server has one worker, so a password that is changed through it is refused at once.
_CONFIGURATION = """\
[mlflow]
default_permission = READ
database_uri = {users}
admin_username = {user}
auth_cache_ttl_seconds = 300
"""


def mlflow_command(home: Path, port: int) -> tuple[str, ...]:
    """Python module and arguments of the server; secrets go through its environment."""
    artifacts = home / "mlflow" / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    given = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--app-name", "basic-auth"]
    return ("mlflow", "server", *given, "--artifacts-destination", artifacts.as_uri())


def mlflow_environment(
    environment: Mapping[str, str], folder: Path, keys: Mapping[str, str], database: str, users: str
) -> dict[str, str]:
    """The environment of the server.

    Args:
        environment: that of the stack; Airflow's configuration, with its secrets, is left out.
        folder: gets a file that holds the database's password and that only its owner can read.
        keys: secrets of the home.
        database: SQLAlchemy's address of the database for runs and models.
        users: the same for the users and their rights.
    """
    configuration = folder / "mlflow-auth.ini"
    write_private(configuration, _CONFIGURATION.format(users=users, user=USER))
    kept = {name: value for name, value in environment.items() if not name.startswith(("AIRFLOW_", "MLFLOW_TRACKING_"))}
    return kept | {
        "MLFLOW_BACKEND_STORE_URI": database,
        "MLFLOW_AUTH_CONFIG_PATH": str(configuration),
        "MLFLOW_AUTH_ADMIN_PASSWORD": keys["mlflow_password"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": keys["mlflow_session_key"],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it would start eight processes that nobody uses here
    }


def mlflow_answers(port: int, password: str) -> bool:
    """Whether the server on this port answers a question that it has to ask its database."""
    question = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search"
    with requests.Session() as session:
        session.trust_env = False  # loopback never goes through a proxy
        try:
            return session.get(question, params={"max_results": 1}, auth=(USER, password), timeout=5).ok
        except requests.RequestException:
            return False
