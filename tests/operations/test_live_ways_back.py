"""An alias that somebody moved, a rollback, runs that failed, a user who is forgotten, and `make down`."""

import datetime as dt
import json
import socket
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy
from playwright.sync_api import Page

from infra.local.client import ApiError
from infra.local.daemons import daemons_of, database_of
from infra.local.environment import USER
from infra.local.processes import stack_processes
from infra.local.status import status
from infra.local.up import down
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.pages.addresses import DAILY
from tests.operations.live_day import MINUTES, MODEL, NEXT_DAY, Live, keep, open_form, until
from tests.whole_stack import DAY

pytestmark = [pytest.mark.airflow, pytest.mark.spark, pytest.mark.mlflow, pytest.mark.browser, pytest.mark.slow]


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
    until(lambda: not publications.runs(unfinished=True), 5 * MINUTES, "the publications under way")
    live.registry.set_registered_model_alias(MODEL, "champion", stranger.version)
    assert live.by_hand("esans_publish", {}) == "failed"
    assert live.champion() == "2" and live.store.current() == second
    alert = next(alert for alert in live.alerts if alert["dag"] == "esans_publish")
    assert alert["task"] == "publish_champion" and "gate report" in alert["message"]


def test_rollback_takes_alias_and_bundle_back_and_waits_for_no_step(
    live: Live, published: str, second: str, airflow_page: Page
) -> None:
    form = open_form(live, airflow_page, "esans_rollback")
    form.locator("[name=element_reason]").fill("The new one is slow.")
    keep(airflow_page, "rollback")
    features, busy = live.airflow.about("esans_features"), f"test__{NEXT_DAY}-busy"
    features.trigger(busy, NEXT_DAY, {"features.text_dim": 8})  # so that the views are made anew, which takes a while

    def at_work() -> list[str]:
        return [task["task_id"] for task in features.task_instances(busy) if task["state"] == "running"]

    taken = until(lambda: found if len(found := at_work()) == 2 else None, 10 * MINUTES, "two steps, which are all that may be")
    form.get_by_role("button", name="Trigger", exact=True).click()
    until(lambda: live.store.current() == published, 5 * MINUTES, "the rollback")
    rollbacks = live.airflow.about("esans_rollback")
    (step,) = rollbacks.task_instances(rollbacks.runs()[-1]["dag_run_id"])
    ends = [task["end_date"] for task in features.task_instances(busy) if task["task_id"] in taken]
    assert all(end is None or step["start_date"] < end for end in ends)  # it began beside them
    features.fail(busy)
    told = until(lambda: [a for a in live.alerts if a["run"] == busy], MINUTES, "the alert about what a person marked")
    assert [(alert["state"], alert["task"]) for alert in told] == [("marked_failed", None)]
    assert live.champion() == "1"
    assert live.by_hand("esans_publish", {}) == "success"  # nothing comes back by itself
    assert live.store.current() == published
    assert live.store.history()[-1]["reason"] == "The new one is slow."
    assert f"Decided by {USER}, by a rollback" in (live.home / "reports" / "index.html").read_text()


def test_an_alias_that_is_deleted_is_put_back_and_somebody_hears(live: Live, published: str) -> None:
    live.registry.delete_registered_model_alias(MODEL, "champion")
    assert live.by_hand("esans_publish", {}) == "failed"
    assert live.champion() == "1" and live.store.current() == published
    alert = [alert for alert in live.alerts if alert["dag"] == "esans_publish"][-1]
    assert "no version carried the alias" in alert["message"]


def test_a_run_that_failed_or_was_stopped_is_cleared_before_and_after_its_deadline(live: Live, second: str) -> None:
    client, date = live.airflow, NEXT_DAY + dt.timedelta(days=1)
    run_id = f"test__{date}"
    client.trigger(run_id, date, {"data.source": "/nowhere/at/all"})
    assert live.finished(DAILY, run_id) == "failed"
    ((before, _),) = _deadlines(live, run_id)
    client.clear(run_id)
    ((after, _),) = _deadlines(live, run_id)
    assert after > before
    client.fail(run_id)
    client.clear(run_id)
    assert live.finished(DAILY, run_id) == "failed"
    passed = "UPDATE deadline SET deadline_time = queued_at FROM dag_run WHERE dag_run.id = dagrun_id AND run_id = :run"
    _on_airflows_tables(live, passed, run=run_id)
    until(lambda: all(missed for _, missed in _deadlines(live, run_id)), 2 * MINUTES, "the deadline that has passed")
    client.clear(run_id)
    assert live.finished(DAILY, run_id) == "failed"
    history = (live.home / "reports" / "index.html").read_text()
    assert f"Last verdict, {NEXT_DAY}" in history and f"{date}/index.html" in history  # said, but it does not lead
    states = {alert["state"] for alert in live.alerts if alert["run"] == run_id}
    assert "failed" in states and "late" not in states  # whoever was told that it failed need not hear that it is late


def test_a_value_that_is_refused_is_named_and_the_day_can_be_handed_in_again(live: Live, second: str) -> None:
    day = NEXT_DAY + dt.timedelta(days=2)
    moment = dt.datetime.combine(day, dt.time(9, 15), dt.UTC)
    with pytest.raises(ApiError, match="training.epochs"):  # nothing has run
        live.airflow.trigger(None, moment, {"training.epochs": 0})
    for minutes, said in ((0, "training.epochs"), (1, "training.members")):
        section, name = said.split(".")
        conf = {section: {name: 0}}  # a form that Airflow does not look into; the first step does
        run_id = live.airflow.trigger(None, moment + dt.timedelta(minutes=minutes), conf)
        assert run_id.startswith(f"manual__{day}__asked_")
        assert live.finished(DAILY, run_id) == "failed"
        record = live.read(day, "steps/prepare.json")
        assert record["run"] == run_id and said in record["message"] and record["state"] == "failed"
    page = live.home / "reports" / "index.html"
    until(lambda: f"{day}</a>: prepare failed" in page.read_text(), 2 * MINUTES, "the page that says so")


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
