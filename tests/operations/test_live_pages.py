"""What the interfaces, the reports and a served bundle say after a day of decisions."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from infra.local.environment import USER
from infra.local.processes import await_answer, free_port
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.pages.addresses import DAILY
from tests.operations.live_day import MINUTES, MODEL, NEXT_DAY, PATIENCE, Live, keep, leave, until
from tests.whole_stack import CONF, DAY

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.mlflow, pytest.mark.browser, pytest.mark.slow]


def test_mlflow_shows_the_alias(live: Live, approved: dict[str, Any], mlflow_page: Page) -> None:
    experiment = live.registry.get_experiment(
        live.registry.get_run(live.registry.get_model_version(MODEL, "1").run_id).info.experiment_id
    )
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    mlflow_page.goto(f"{live.ports.mlflow_url}/#/models/{MODEL}")
    expect(mlflow_page.get_by_text("@ champion").first).to_be_visible()
    keep(mlflow_page, "registry")
    mlflow_page.goto(f"{live.ports.mlflow_url}/#/models/{MODEL}/versions/{approved['version']}")
    expect(mlflow_page.get_by_text("Known limits")).to_be_visible()
    keep(mlflow_page, "version")
    leave(mlflow_page)


def test_the_bundle_answers_over_http(live: Live, published: str) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{MODEL}@champion", "-p", str(port)]
    environment = os.environ | {"MLFLOW_TRACKING_URI": live.ports.mlflow_url, "ESANS_LOCAL_STACK": str(live.home)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"  # as in an activated environment
    server = subprocess.Popen(
        [*command, "-h", "127.0.0.1", "--env-manager", "local"],
        env=environment,
        cwd=live.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        await_answer(server, f"{url}/ping")
        items = Lake.of(PipelineSettings(home=live.home)).read("items", DAY, ["item_id"])["item_id"].to_pylist()
        histories = [[items[0], items[1]], ["never heard of"], []]
        answer = requests.post(f"{url}/invocations", json={"inputs": histories, "params": {"k": 5}}, timeout=60)
        assert answer.ok, answer.text
        rows = answer.json()["predictions"]
        assert [len(row["item_id"]) for row in rows] == [5, 5, 5]
        assert [row["fallback"] for row in rows] == [False, True, True]
        assert not set(rows[0]["item_id"]) & set(histories[0])
    finally:
        server.terminate()
        server.wait()


def test_pages_and_numbers_follow(live: Live, second: str, airflow_page: Page, browser: Browser) -> None:
    who = (USER, live.keys["password"])
    assert requests.get(live.ports.reports_url, timeout=30).status_code == 401

    def start_page() -> str:
        return requests.get(live.ports.reports_url, auth=who, timeout=30).text

    until(lambda: "Version 2, since" in start_page(), MINUTES, "the page of what was published just now")
    history = start_page()
    assert f"Decided by {USER}, a person" in history and "I was on the train." in history
    run_id = f"test__{NEXT_DAY}"
    report = requests.get(f"{live.ports.reports_url}/run/{run_id}", auth=who, timeout=30)
    assert report.url == f"{live.ports.reports_url}/{NEXT_DAY}/" and f"/dags/{DAILY}/runs/{run_id}" in report.text
    airflow_page.goto(f"{live.ports.airflow_url}/dags/{DAILY}/runs/{run_id}")
    expect(airflow_page.get_by_role("link", name="Report", exact=True)).to_be_visible()
    _links_work_in_the_frame(live, run_id, airflow_page, browser)
    leave(airflow_page)
    extra = live.airflow.asset_events("registry.report")[0]["extra"]
    assert extra["verdict"] == "rejected_in_review" and extra["users"] > 0 and len(extra["difference_to_champion"]) == 3
    numbers = (live.home / "metrics" / "esans.prom").read_text()
    assert (
        'esans_promotion_verdict{verdict="rejected_in_review"} 1' in numbers
        and 'esans_step_success{step="report"} 1' in numbers
    )
    version = live.registry.get_model_version(MODEL, "2")
    assert "review/metrics.png" in version.description and version.tags["esans.gates"].startswith("5 of 5 passed")
    shown = {file.path for file in live.registry.list_artifacts(version.run_id, "review")}
    assert shown >= {"review/report.html", "review/gates.html", "review/negatives.png", "review/clusters.png"}


def _links_work_in_the_frame(live: Live, run_id: str, airflow_page: Page, browser: Browser) -> None:
    """Airflow lets the page in its tab open no other: links stay in the frame, or say their address."""
    login = {"username": USER, "password": live.keys["password"], "origin": live.ports.reports_url}
    context = browser.new_context(storage_state=airflow_page.context.storage_state(), http_credentials=login)
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{live.ports.airflow_url}/dags/{DAILY}/runs/{run_id}/plugin/report")
    framed = page.frame_locator("iframe")
    framed.get_by_role("link", name="Version in MLflow").click()
    expect(framed.locator(".address")).to_contain_text(f"The address is {live.ports.mlflow_url}/")
    framed.get_by_role("link", name="Data Docs").click()
    expect(framed.get_by_role("heading", name="Results by date")).to_be_visible()
    context.close()


def test_a_run_of_features_that_makes_nothing_new_says_so(live: Live, second: str) -> None:
    features, run_id = live.airflow.about("esans_features"), "test__nothing_new"
    features.trigger(run_id, DAY, {})
    assert live.finished("esans_features", run_id) == "success"
    states = {task["task_id"]: task["state"] for task in features.task_instances(run_id)}
    assert states.pop("what_is_new") == "skipped" and set(states.values()) == {"success"}
    record = json.loads((live.home / "feature_runs" / DAY.isoformat() / "steps" / "gate_features.json").read_text())
    assert record["reused"] and record["why"].startswith("nothing new")
    for view in ("visual_features", "text_features", "behaviour_features"):
        extra = features.asset_events(f"features.{view}")[0]["extra"]
        assert extra["new"] is False and extra["rows"] == CONF["shop.num_items"]
