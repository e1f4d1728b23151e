"""Where the pages of a date lead: its run in Airflow, its review, its Data Docs. What is not known has no address.

The stack says where its parts answer: `ESANS_AIRFLOW_UI` and `ESANS_REPORTS_UI`.
"""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

DAILY = "esans_daily_retraining"  # the DAG that works on a date
_REVIEW = "registry.review"
_TUNE, _TUNE_REVIEW = "esans_tune", "review"
DATA_DOCS = Path("gx", "uncommitted", "data_docs", "local_site")  # below the home; served as `/data-docs/`


def data_docs(home: Path) -> str:
    """The Data Docs of a home; empty if no gate has written any."""
    docs, server = home / DATA_DOCS / "index.html", _server("ESANS_REPORTS_UI")
    if not docs.exists():
        return ""
    return f"{server}/data-docs/index.html" if server else docs.as_uri()


def airflow_run(run_dir: Path) -> str:
    """The page of the run that worked on a date last; empty if it is not known."""
    return _run(DAILY, run_of(run_dir))


def report_page(run_dir: Path) -> str:
    """The report of a date where the stack serves it; empty if it serves none."""
    server = _server("ESANS_REPORTS_UI")
    return f"{server}/{run_dir.name}/" if server else ""


def review_page(run_dir: Path) -> str:
    """The page on which a person approves or rejects the version of a date; empty if it is not known."""
    run = airflow_run(run_dir)
    return f"{run}/tasks/{_REVIEW}/required_actions" if run else ""


def proposal_page(folder: Path) -> str:
    """The page on which a person approves or rejects the settings that a search proposes; empty if it is not known.

    Args:
        folder: of the search.
    """
    run = _run(_TUNE, str(_read(folder / "steps" / "tuning.json").get("run") or ""))
    return f"{run}/tasks/{_TUNE_REVIEW}/required_actions" if run else ""


def run_of(run_dir: Path) -> str:
    """Name of the Airflow run that worked on a date last; empty if none did."""
    return str(_read(run_dir / "steps" / "prepare.json").get("run") or "")


def _run(dag: str, run: str) -> str:
    server = _server("ESANS_AIRFLOW_UI")
    return f"{server}/dags/{dag}/runs/{quote(run, safe='')}" if server and run else ""


def _server(name: str) -> str:
    return os.environ.get(name, "").rstrip("/")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
