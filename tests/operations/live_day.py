"""The live stack as people work with it, and what its tests do in a browser.

If ESANS_SCREENSHOTS names a folder, pictures of the pages are kept there.
"""

import datetime as dt
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from playwright.sync_api import Page, expect

from infra.local.client import AirflowClient
from infra.local.ports import Ports
from infra.local.up import client_of
from jobs.base.settings import PipelineSettings
from jobs.serving.store import ServingStore
from tests.whole_stack import DAY, Kept, kept

NEXT_DAY = DAY + dt.timedelta(days=1)
MODEL = "esans-retrieval"
CHROMIUM = "/usr/bin/chromium"
PATIENCE = 120_000  # milliseconds that a page may take on a busy machine
MINUTES = 60.0


@dataclass(frozen=True)
class Live:
    """A home whose stack is up, and the alerts that the stack has sent."""

    home: Path
    ports: Ports
    keys: dict[str, str]
    alerts: list[dict[str, Any]]

    @cached_property
    def airflow(self) -> AirflowClient:
        """One client, which logs in once: this file asks it every second."""
        return client_of(self.home)

    @cached_property
    def registry(self) -> MlflowClient:
        return MlflowClient(self.ports.mlflow_url, self.ports.mlflow_url)

    @property
    def store(self) -> ServingStore:
        return ServingStore(self.home / "serving")

    def kept(self) -> Kept:
        return kept(PipelineSettings(home=self.home, date=DAY))

    def champion(self) -> str | None:
        found = self.registry.get_registered_model(MODEL).aliases.get("champion")
        return None if found is None else str(found)

    def run_dir(self, date: dt.date) -> Path:
        return self.home / "runs" / date.isoformat()

    def read(self, date: dt.date, name: str) -> Any:
        return json.loads((self.run_dir(date) / name).read_text())

    def finished(self, dag_id: str, run_id: str) -> str:
        """Wait for the end of a run; returns its state."""
        client = self.airflow.about(dag_id)
        until(lambda: client.run(run_id)["state"] in ("success", "failed"), 20 * MINUTES, f"{dag_id} {run_id}")
        return client.run(run_id)["state"]

    def by_hand(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger one of the DAGs that people start, and wait; returns the state in which it ended."""
        run_id = f"test__{time.time_ns()}"
        self.airflow.about(dag_id).trigger(run_id, None, conf)
        return self.finished(dag_id, run_id)


def until(ready: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(1)
    raise AssertionError(f"{what}: nothing after {seconds:.0f} s")


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("ESANS_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/{name}.png")


def leave(page: Page) -> None:
    """Leave a page, because the interfaces ask their servers for news every few seconds during a whole run."""
    page.goto("about:blank")


def open_form(live: Live, page: Page, dag_id: str) -> Any:
    page.goto(f"{live.ports.airflow_url}/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.locator("[role=dialog][data-state=open]")
    expect(form).to_contain_text("Trigger Dag")
    return form
