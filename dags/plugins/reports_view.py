"""A plugin of Airflow's pages: the tab *Report* on every run, and *Reports* in the navigation, where the stack serves them."""

import os
from typing import Any

from airflow.plugins_manager import AirflowPlugin


def views(server: str) -> list[dict[str, Any]]:
    """The views that lead to the server of the reports; none without its address."""
    if not server:
        return []
    run = {"name": "Report", "href": f"{server}/run/{{RUN_ID}}", "destination": "dag_run", "url_route": "report"}
    return [run, {"name": "Reports", "href": f"{server}/", "destination": "nav", "url_route": "reports"}]


class ReportsViewPlugin(AirflowPlugin):
    """Registers the views."""

    name = "esans_reports_view"
    external_views = views(os.environ.get("ESANS_REPORTS_UI", "").rstrip("/"))
