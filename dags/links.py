"""Buttons on a task's page that lead to MLflow: its run, the model's version, the gate report, the Data Docs.

Airflow works a link out when the task ends, where the task ran, and keeps it. So the code only has to look into the run folder.
Reports and Data Docs are files of the home folder, and a page served over HTTP may not open those. MLflow keeps a copy of them
with the run, and the links lead there.
"""

import os
from pathlib import Path

import attrs
from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.types import TaskInstanceKey

from jobs.registry import mlflow_pages as pages


@attrs.define
class MlflowLink(BaseOperatorLink):
    """A page of MLflow. Its button is off until the page exists, and also if `ESANS_MLFLOW_UI` is not set.

    Attributes:
        name: text on the button.
        pattern: pattern of the address, from `jobs.registry.mlflow_pages`.
        trained_by: step whose MLflow run the page belongs to.
    """

    name: str
    pattern: str
    trained_by: str = "train_challenger"

    @property
    def xcom_key(self) -> str:
        """Where Airflow keeps the link of a task."""
        return f"_link_{self.name.lower().replace(' ', '_')}"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; empty if a part of it is not known."""
        run_dir = Path(operator.record).parent.parent  # type: ignore[attr-defined]
        return pages.mlflow_page(run_dir, self.pattern, trained_by=self.trained_by)


@attrs.define
class ReportLink(BaseOperatorLink):
    """The report of the task's date, where the stack serves it (`ESANS_REPORTS_UI`); its button is off elsewhere."""

    name: str = "Report"
    xcom_key: str = "_link_report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address; empty if nothing serves the reports."""
        server = os.environ.get("ESANS_REPORTS_UI", "").rstrip("/")
        date = Path(operator.record).parent.parent.name  # type: ignore[attr-defined]
        return f"{server}/{date}/" if server else ""


RUN = MlflowLink(name="MLflow run", pattern=pages.RUN)
BASELINE_RUN = MlflowLink(name="MLflow run", pattern=pages.RUN, trained_by="train_baseline")
VERSION = MlflowLink(name="Model version", pattern=pages.VERSION)
GATE_REPORT = MlflowLink(name="Gate report", pattern=pages.GATE_REPORT)
DATA_DOCS = MlflowLink(name="Data Docs", pattern=pages.REVIEW)
REPORT = ReportLink()
