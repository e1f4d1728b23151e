"""The pipeline as people operate it: up on PostgreSQL, a run from the form in a browser, a review, MLflow's pages, a served
bundle, a rollback, an alias that somebody moved without asking, and down.

Each fixture is a step of one long day and needs the one before it, so the fixtures fix the order. `infra/test_up.py` uses the
same stack first, kills parts of it and brings it back; here it is taken down in the end. If ESANS_SCREENSHOTS names a folder,
pictures of the pages are kept there.
"""

import datetime as dt
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import requests
import sqlalchemy
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, expect, sync_playwright

from infra.local.client import DAG_ID, AirflowClient
from infra.local.daemons import daemons_of, database_of
from infra.local.environment import USER
from infra.local.ports import Ports
from infra.local.processes import await_answer, free_port, stack_processes
from infra.local.status import status
from infra.local.up import client_of, down
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.serving.store import ServingStore
from tests.whole_stack import CONF, DAY, FinishedDay, Kept, LiveStack, kept, reused

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.mlflow, pytest.mark.browser, pytest.mark.slow]

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
        _until(lambda: client.run(run_id)["state"] in ("success", "failed"), 20 * MINUTES, f"{dag_id} {run_id}")
        return client.run(run_id)["state"]

    def by_hand(self, dag_id: str, conf: dict[str, Any]) -> str:
        """Trigger one of the DAGs that people start, and wait; returns the state in which it ended."""
        run_id = f"test__{time.time_ns()}"
        self.airflow.about(dag_id).trigger(run_id, None, conf)
        return self.finished(dag_id, run_id)


def _until(ready: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(1)
    raise AssertionError(f"{what}: nothing after {seconds:.0f} s")


@pytest.fixture(scope="module")
def live(live_stack: LiveStack) -> Iterator[Live]:
    """The live stack, in the environment of a person who knows the registry's password."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", live_stack.keys["mlflow_password"])
        patch.setenv("ESANS_REGISTRY__TRACKING_URI", live_stack.ports.mlflow_url)
        yield Live(live_stack.home, live_stack.ports, live_stack.keys, live_stack.heard.alerts)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def airflow_page(live: Live, browser: Browser) -> Page:
    """Airflow's interface, logged in."""
    page = browser.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(PATIENCE)
    page.goto(live.ports.airflow_url)
    page.fill("input[name=username]", USER)
    page.fill("input[name=password]", live.keys["password"])
    page.click("button[type=submit]")
    page.wait_for_url(f"{live.ports.airflow_url}/")
    return page


@pytest.fixture(scope="module")
def mlflow_page(live: Live, browser: Browser) -> Page:
    """MLflow's interface, logged in."""
    credentials = {"username": USER, "password": live.keys["mlflow_password"]}
    page = browser.new_context(viewport={"width": 1800, "height": 1400}, http_credentials=credentials).new_page()
    page.set_default_timeout(PATIENCE)
    return page


def _keep(page: Page, name: str) -> None:
    if folder := os.environ.get("ESANS_SCREENSHOTS"):
        page.wait_for_timeout(1500)
        page.screenshot(path=f"{folder}/{name}.png")


def _leave(page: Page) -> None:
    """Leave a page, because the interfaces ask their servers for news every few seconds during a whole run."""
    page.goto("about:blank")


def _open_form(live: Live, page: Page, dag_id: str) -> Any:
    page.goto(f"{live.ports.airflow_url}/dags/{dag_id}")
    page.get_by_role("button", name="Trigger").first.click()
    form = page.locator("[role=dialog][data-state=open]")
    expect(form).to_contain_text("Trigger Dag")
    return form


@pytest.fixture(scope="module")
def asked(live: Live, airflow_page: Page) -> str:
    """A run under policy `review`, started in the browser; its id, as soon as it waits for a person."""
    form = _open_form(live, airflow_page, DAG_ID)
    form.get_by_test_id("datetime-input").click()
    for field_of, text in zip(
        airflow_page.locator("[data-part=content][data-scope=popover][data-state=open] input").all(),
        (f"{DAY:%Y/%m/%d}", "00:00"),
        strict=True,
    ):
        field_of.fill(text)
        field_of.press("Enter")
    form.get_by_role("heading").first.click()
    expect(form.get_by_test_id("datetime-input")).to_contain_text(f"{DAY:%b %d, %Y} 00:00")
    policy = form.get_by_role("combobox", name="registry.promotion")
    policy.fill("review")
    policy.press("Enter")
    _keep(airflow_page, "form")
    form.get_by_role("button", name="Trigger", exact=True).click()
    runs = _until(lambda: live.airflow.runs(date=DAY), 2 * MINUTES, "the run that the form starts")
    _leave(airflow_page)
    assert runs[0]["conf"]["registry.promotion"] == "review"
    assert runs[0]["conf"]["shop.num_items"] == CONF["shop.num_items"]  # an untouched field holds the deployment's value
    run_id = runs[0]["dag_run_id"]

    def waits() -> bool:
        assert live.airflow.run(run_id)["state"] in ("queued", "running"), live.airflow.task_instances(run_id)
        return any(not approval["response_received"] for approval in live.airflow.approvals(run_id))

    _until(waits, 20 * MINUTES, "the review")
    return run_id


@pytest.fixture(scope="module")
def approved(live: Live, asked: str, airflow_page: Page) -> dict[str, Any]:
    """The verdict after the approval."""
    assert live.registry.get_registered_model(MODEL).aliases == {}
    airflow_page.goto(f"{live.ports.airflow_url}/dags/{DAG_ID}/runs/{asked}/tasks/registry.review/required_actions")
    expect(airflow_page.get_by_role("button", name="Approve")).to_be_visible()
    _keep(airflow_page, "review")
    airflow_page.locator("[name=element_reason]").fill("Looks right to me.")
    airflow_page.get_by_role("button", name="Approve").click()
    _until(lambda: (live.run_dir(DAY) / "review.json").exists(), 5 * MINUTES, "the answer")
    _leave(airflow_page)
    assert live.finished(DAG_ID, asked) == "success"
    return live.read(DAY, "verdict.json")


@pytest.fixture(scope="module")
def published(live: Live, approved: dict[str, Any]) -> str:
    """The first bundle, which is published after the promotion without any further action."""
    return str(_until(live.store.current, 5 * MINUTES, "the first bundle"))


@pytest.fixture(scope="module")
def first_kept(live: Live, published: str) -> Kept:
    """The state of the home before the next day."""
    return live.kept()


@pytest.fixture(scope="module")
def unanswered(live: Live, published: str, first_kept: Kept) -> dict[str, Any]:
    """The verdict of the next day, triggered over REST, whose review nobody answers."""
    run_id = f"test__{NEXT_DAY}"
    live.airflow.trigger(run_id, NEXT_DAY, {"registry.promotion": "review", "registry.review_hours": 0.005})
    assert live.finished(DAG_ID, run_id) == "success"
    return live.read(NEXT_DAY, "verdict.json")


@pytest.fixture(scope="module")
def second(live: Live, published: str, unanswered: dict[str, Any], airflow_page: Page) -> str:
    """The bundle of the next day, after a person made its version champion in the browser."""
    assert live.champion() == "1" and live.store.current() == published
    form = _open_form(live, airflow_page, "esans_promote")
    form.locator("[name=element_version]").fill(unanswered["version"])
    form.locator("[name=element_reason]").fill("I was on the train.")
    _keep(airflow_page, "promote")
    form.get_by_role("button", name="Trigger", exact=True).click()
    bundle = _until(lambda: {live.store.current()} - {published, None}, 5 * MINUTES, "the second bundle").pop()
    _leave(airflow_page)
    return str(bundle)


def test_what_make_run_has_made_is_taken_over(live: Live, finished_day: FinishedDay, approved: dict[str, Any]) -> None:
    """The same day again: `make run` made it in this home before. Only what depends on the registry is made anew."""
    views = {"text_features", "behaviour_features", "gate_features"}
    clusters = {"fit_codebooks", "assign_clusters", "gate_clusters"}
    assert {"gate_raw", "ingest", *views, *clusters, "build_training_set", "gate_training_set"} <= reused(live.run_dir(DAY))
    now, before = live.kept().tables, finished_day.kept.tables
    data = {name for name in before if name.split("/")[0] not in ("challenger", "baseline", "evaluation", "candidates")}
    assert len(data) > 10 and {name: now[name] for name in data} == {name: before[name] for name in data}


def test_a_person_approves_and_the_registry_says_so(live: Live, approved: dict[str, Any]) -> None:
    assert approved["verdict"] == "promoted"
    review = live.read(DAY, "review.json")
    assert (review["decision"], review["by"], review["reason"]) == ("approved", USER, "Looks right to me.")
    assert live.champion() == approved["version"]
    tags = live.registry.get_model_version(MODEL, approved["version"]).tags
    assert tags["esans.reviewed_by"] == USER


def test_mlflow_shows_the_alias(live: Live, approved: dict[str, Any], mlflow_page: Page) -> None:
    experiment = live.registry.get_experiment(
        live.registry.get_run(live.registry.get_model_version(MODEL, "1").run_id).info.experiment_id
    )
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    mlflow_page.goto(f"{live.ports.mlflow_url}/#/models/{MODEL}")
    expect(mlflow_page.get_by_text("@ champion").first).to_be_visible()
    _keep(mlflow_page, "registry")
    mlflow_page.goto(f"{live.ports.mlflow_url}/#/models/{MODEL}/versions/{approved['version']}")
    expect(mlflow_page.get_by_text("Known limits")).to_be_visible()
    _keep(mlflow_page, "version")
    _leave(mlflow_page)


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


def test_silence_rejects(live: Live, unanswered: dict[str, Any]) -> None:
    assert unanswered["verdict"] == "rejected_in_review" and unanswered["passed"]
    review = live.read(NEXT_DAY, "review.json")
    assert (review["decision"], review["by"], review["timed_out"]) == ("rejected", "", True)
    assert "nobody answered in time" in live.registry.get_model_version(MODEL, "2").tags["esans.review_reason"]


def test_a_person_promotes_the_next_day_by_hand(
    live: Live, published: str, first_kept: Kept, unanswered: dict[str, Any], second: str
) -> None:
    assert unanswered["incumbent_version"] == "1" and live.champion() == unanswered["version"] == "2"
    tags = live.registry.get_model_version(MODEL, "2").tags
    assert (tags["esans.promoted_by"], tags["esans.promotion_reason"]) == (USER, "I was on the train.")
    assert live.read(NEXT_DAY, "metrics.json")["models"]["champion"] is not None
    assert live.store.names() == [published, second]
    tables = live.kept().tables
    assert {name: digest for name, digest in tables.items() if name.endswith(str(DAY))} == first_kept.tables


def test_pages_and_numbers_follow(live: Live, second: str, airflow_page: Page) -> None:
    who = (USER, live.keys["password"])
    assert requests.get(live.ports.reports_url, timeout=30).status_code == 401

    def start_page() -> str:
        return requests.get(live.ports.reports_url, auth=who, timeout=30).text

    _until(lambda: "Version 2, since" in start_page(), MINUTES, "the page of what was published just now")
    history = start_page()
    assert f"Decided by {USER}, a person" in history and "I was on the train." in history
    run_id = f"test__{NEXT_DAY}"
    report = requests.get(f"{live.ports.reports_url}/run/{run_id}", auth=who, timeout=30)
    assert report.url == f"{live.ports.reports_url}/{NEXT_DAY}/" and f"/dags/{DAG_ID}/runs/{run_id}" in report.text
    airflow_page.goto(f"{live.ports.airflow_url}/dags/{DAG_ID}/runs/{run_id}")
    expect(airflow_page.get_by_role("link", name="Report", exact=True)).to_be_visible()
    _leave(airflow_page)
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


def test_an_alias_moved_to_an_unchecked_version_is_put_back(live: Live, second: str) -> None:
    copied = live.registry.get_model_version(MODEL, "1")
    stranger = live.registry.create_model_version(
        MODEL,
        source=copied.source,
        run_id=copied.run_id,
        model_id=copied.source.removeprefix("models:/"),
        tags=copied.tags,  # all that a version shows can be copied, except its signed report
    )
    publications = live.airflow.about("esans_publish")
    # One that is under way, by the promotion before or by the hour, would put the alias back first.
    _until(lambda: not publications.runs(unfinished=True), 5 * MINUTES, "the publications under way")
    live.registry.set_registered_model_alias(MODEL, "champion", stranger.version)
    assert live.by_hand("esans_publish", {}) == "failed"
    assert live.champion() == "2" and live.store.current() == second
    alert = next(alert for alert in live.alerts if alert["dag"] == "esans_publish")
    assert alert["task"] == "publish_champion" and "gate report" in alert["message"]


def test_rollback_takes_alias_and_bundle_back_and_waits_for_no_step(
    live: Live, published: str, second: str, airflow_page: Page
) -> None:
    form = _open_form(live, airflow_page, "esans_rollback")
    form.locator("[name=element_reason]").fill("The new one is slow.")
    _keep(airflow_page, "rollback")
    features, busy = live.airflow.about("esans_features"), f"test__{NEXT_DAY}-busy"
    features.trigger(busy, NEXT_DAY, {"features.text_dim": 8})  # so that the views are made anew, which takes a while

    def at_work() -> list[str]:
        return [task["task_id"] for task in features.task_instances(busy) if task["state"] == "running"]

    taken = _until(
        lambda: found if len(found := at_work()) == 2 else None, 10 * MINUTES, "two steps, which are all that may be"
    )
    form.get_by_role("button", name="Trigger", exact=True).click()
    _until(lambda: live.store.current() == published, 5 * MINUTES, "the rollback")
    rollbacks = live.airflow.about("esans_rollback")
    (step,) = rollbacks.task_instances(rollbacks.runs()[-1]["dag_run_id"])
    ends = [task["end_date"] for task in features.task_instances(busy) if task["task_id"] in taken]
    assert all(end is None or step["start_date"] < end for end in ends)  # it began beside them
    features.fail(busy)
    assert live.champion() == "1"
    assert live.by_hand("esans_publish", {}) == "success"  # nothing comes back by itself
    assert live.store.current() == published
    assert live.store.history()[-1]["reason"] == "The new one is slow."
    assert f"Decided by {USER}, by a rollback" in (live.home / "reports" / "index.html").read_text()


def test_a_run_that_failed_or_was_stopped_is_cleared_before_and_after_its_deadline(live: Live, second: str) -> None:
    client, date = live.airflow, NEXT_DAY + dt.timedelta(days=1)
    run_id = f"test__{date}"
    client.trigger(run_id, date, {"data.source": "/nowhere/at/all"})
    assert live.finished(DAG_ID, run_id) == "failed"
    ((before, _),) = _deadlines(live, run_id)
    client.clear(run_id)
    ((after, _),) = _deadlines(live, run_id)
    assert after > before
    client.fail(run_id)
    client.clear(run_id)
    assert live.finished(DAG_ID, run_id) == "failed"
    passed = "UPDATE deadline SET deadline_time = queued_at FROM dag_run WHERE dag_run.id = dagrun_id AND run_id = :run"
    _on_airflows_tables(live, passed, run=run_id)
    _until(lambda: all(missed for _, missed in _deadlines(live, run_id)), 2 * MINUTES, "the deadline that has passed")
    client.clear(run_id)
    assert live.finished(DAG_ID, run_id) == "failed"
    history = (live.home / "reports" / "index.html").read_text()
    assert f"Last verdict, {NEXT_DAY}" in history and f"{date}/index.html" in history  # said, but it does not lead
    states = {alert["state"] for alert in live.alerts if alert["run"] == run_id}
    assert "failed" in states and "late" not in states  # whoever was told that it failed need not hear that it is late
    client.delete(run_id)
    client.trigger(f"{run_id}-again", date, {"data.source": "/nowhere/at/all"})  # the date is free for another run
    assert live.finished(DAG_ID, f"{run_id}-again") == "failed"


def _deadlines(live: Live, run_id: str) -> Sequence[tuple[dt.datetime, bool]]:
    """When the deadline of a run is, and whether Airflow has seen it pass; empty once Airflow has dropped it."""
    query = "SELECT deadline_time, missed FROM deadline JOIN dag_run ON dag_run.id = dagrun_id WHERE run_id = :run"
    return _on_airflows_tables(live, query, run=run_id)


def _on_airflows_tables(live: Live, statement: str, **values: str) -> Sequence[Any]:
    """Do what no interface of Airflow can do; returns the rows, if there are any."""
    address = daemons_of(live.home)["scheduler"].environ()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    engine = sqlalchemy.create_engine(address)
    try:
        with engine.begin() as connection:
            done = connection.execute(sqlalchemy.text(statement), values)
            return done.all() if done.returns_rows else ()
    finally:
        engine.dispose()


def test_a_user_is_forgotten_and_airflow_keeps_no_id(live: Live, second: str) -> None:
    lake = Lake.of(PipelineSettings(home=live.home))
    user_id = lake.read("users", NEXT_DAY, ["user_id"])["user_id"][3].as_py()
    forgetting = live.airflow.about("esans_forget")
    forgetting.trigger("test__forget", None, {"user": user_id, "reason": "ticket 12"})
    assert live.finished("esans_forget", "test__forget") == "success"
    assert forgetting.run("test__forget")["conf"] == {"user": "(forgotten)", "reason": "ticket 12"}
    for date in (DAY, NEXT_DAY):
        users = lake.read("users", date, ["user_id"])["user_id"].to_pylist()
        assert user_id not in users and "" in users
    record = json.loads((live.home / "actions" / "test__forget" / "forget.json").read_text())
    assert any(model["in_force"] for model in record["summary"]["models"])
    logs = live.home / "airflow" / "logs" / "dag_id=esans_forget"
    assert [path for path in logs.rglob("*.log") if path.is_file()]
    assert not [path for path in logs.rglob("*.log") if user_id in path.read_text()]


def test_down_leaves_no_process_and_no_port(live: Live, second: str) -> None:
    assert down(live.home) is True
    assert stack_processes(live.home) == [] and status(live.home).exit_code == 3
    database = database_of(live.home)
    assert database is not None and database.process is None
    for port in (live.ports.airflow, live.ports.mlflow, live.ports.reports, live.ports.postgres):
        with socket.socket() as knock:
            assert knock.connect_ex(("127.0.0.1", int(port or 0))) != 0
    assert down(live.home) is False
