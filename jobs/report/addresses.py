"""Where the pages of a date lead: its run in Airflow, its version in MLflow, its Data Docs. What is not known has no link.

The stack says where its parts answer: `ESANS_AIRFLOW_UI`, `ESANS_MLFLOW_UI` and `ESANS_REPORTS_UI`.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jobs.registry.mlflow_pages import VERSION, mlflow_page

_DAG, _REVIEW = "esans_daily_retraining", "registry.review"
DATA_DOCS = Path("gx", "uncommitted", "data_docs", "local_site")  # below the home; served as `/data-docs/`


def date_links(run_dir: Path) -> dict[str, str]:
    """The pages about a date elsewhere, by what the link says.

    Args:
        run_dir: run folder of the date.
    """
    found = {"Run in Airflow": airflow_run(run_dir), "Version in MLflow": mlflow_page(run_dir, VERSION), **home_links(run_dir)}
    return {said: address for said, address in found.items() if address}


def home_links(run_dir: Path) -> dict[str, str]:
    """The Data Docs of the home in which a run folder lies; empty if no stage has written any."""
    docs = run_dir.parent.parent / DATA_DOCS / "index.html"
    if not docs.exists():
        return {}
    server = _server("ESANS_REPORTS_UI")
    return {"Data Docs": f"{server}/data-docs/index.html" if server else docs.as_uri()}


def airflow_run(run_dir: Path) -> str:
    """The page of the run that worked on a date last; empty if it is not known."""
    server, run = _server("ESANS_AIRFLOW_UI"), run_of(run_dir)
    return f"{server}/dags/{_DAG}/runs/{quote(run, safe='')}" if server and run else ""


def review_page(run_dir: Path) -> str:
    """The page on which a person approves or rejects the version of a date; empty if it is not known."""
    run = airflow_run(run_dir)
    return f"{run}/tasks/{_REVIEW}/required_actions" if run else ""


def run_of(run_dir: Path) -> str:
    """Name of the Airflow run that worked on a date last; empty if none did."""
    return str(_read(run_dir / "steps" / "prepare.json").get("run") or "")


def _server(name: str) -> str:
    return os.environ.get(name, "").rstrip("/")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
