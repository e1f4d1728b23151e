"""Starts the server of the reports (`jobs.report.server`) on loopback, and asks whether it answers."""

from pathlib import Path

import requests

from infra.local.environment import USER


def server_command(port: int) -> tuple[str, ...]:
    """Python module and arguments of the server."""
    given = ["--factory", "--host", "127.0.0.1", "--port", str(port), "--no-server-header", "--no-proxy-headers"]
    return ("uvicorn", "jobs.report.server:application", *given)


def server_environment(environment: dict[str, str], users: Path) -> dict[str, str]:
    """The environment of the server: that of the stack without Airflow's configuration and MLflow's password.

    Args:
        environment: of the stack.
        users: Airflow's file of users and passwords.
    """
    secret = ("AIRFLOW__", "AIRFLOW_CONN_", "MLFLOW_TRACKING_", "AWS_", "GOOGLE_")
    return {name: value for name, value in environment.items() if not name.startswith(secret)} | {
        "ESANS_USERS_FILE": str(users)
    }


def reports_answer(port: int, password: str) -> bool:
    """Whether the server on this port hands out the start page."""
    with requests.Session() as session:
        session.trust_env = False  # loopback never goes through a proxy
        try:
            return session.get(f"http://127.0.0.1:{port}/", auth=(USER, password), timeout=5).ok
        except requests.RequestException:
            return False
