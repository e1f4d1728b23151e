"""Builds the addresses of MLflow's pages about a run from the files of its run folder."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

RUN = "experiments/{experiment}/runs/{run}"
VERSION = "models/{model}/versions/{version}"
GATE_REPORT = f"{RUN}/artifacts/gate_report"
REVIEW = f"{RUN}/artifacts/review"  # plots, the results of the gates, Data Docs


def mlflow_page(run_dir: Path, pattern: str, *, trained_by: str = "train_challenger") -> str:
    """An address below `ESANS_MLFLOW_UI`; empty if that is not set, or if a part of the address is not known yet.

    Args:
        run_dir: run folder of a date.
        pattern: `RUN` or another of this module.
        trained_by: step that made the MLflow run.
    """
    server = os.environ.get("ESANS_MLFLOW_UI", "").rstrip("/")
    trained, registered = (_read(run_dir / "steps" / f"{step}.json").get("summary", {}) for step in (trained_by, "register"))
    parts = {
        "run": trained.get("mlflow_run_id"),
        "experiment": trained.get("mlflow_experiment_id"),
        "model": _read(run_dir / "settings.json").get("registry", {}).get("model_name"),
        "version": registered.get("version"),
    }
    try:
        path = pattern.format_map({name: quote(str(value), safe="") for name, value in parts.items() if value})
    except KeyError:
        return ""
    return f"{server}/#/{path}" if server else ""


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
