"""One long day of a stack, of which each fixture is a step that needs the one before. So the fixtures fix the order.

The files of this folder share them, in the order of `WHOLE_STACK` in `tests/conftest.py`: what people decide, what the pages
say of it, and the ways back. `infra/test_up.py` uses the same stack first, kills parts of it and brings it back.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from infra.local.environment import USER
from jobs.pages.addresses import DAILY
from tests.operations.live_day import CHROMIUM, MINUTES, MODEL, NEXT_DAY, PATIENCE, Live, keep, leave, open_form, until
from tests.whole_stack import CONF, DAY, Kept, LiveStack


@pytest.fixture(scope="package")
def live(live_stack: LiveStack) -> Iterator[Live]:
    """The live stack, in the environment of a person who knows the registry's password."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        patch.setenv("MLFLOW_TRACKING_PASSWORD", live_stack.keys["mlflow_password"])
        patch.setenv("ESANS_REGISTRY__TRACKING_URI", live_stack.ports.mlflow_url)
        yield Live(live_stack.home, live_stack.ports, live_stack.keys, live_stack.heard.alerts)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="package")
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


@pytest.fixture(scope="package")
def mlflow_page(live: Live, browser: Browser) -> Page:
    """MLflow's interface, logged in."""
    credentials = {"username": USER, "password": live.keys["mlflow_password"]}
    page = browser.new_context(viewport={"width": 1800, "height": 1400}, http_credentials=credentials).new_page()
    page.set_default_timeout(PATIENCE)
    return page


@pytest.fixture(scope="package")
def asked(live: Live, airflow_page: Page) -> str:
    """A run under policy `review`, started in the browser; its id, as soon as it waits for a person."""
    form = open_form(live, airflow_page, DAILY)
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
    keep(airflow_page, "form")
    form.get_by_role("button", name="Trigger", exact=True).click()
    runs = until(lambda: live.airflow.runs(date=DAY), 2 * MINUTES, "the run that the form starts")
    leave(airflow_page)
    assert runs[0]["conf"]["registry.promotion"] == "review"
    assert runs[0]["conf"]["shop.num_items"] == CONF["shop.num_items"]  # an untouched field holds the deployment's value
    run_id = runs[0]["dag_run_id"]

    def waits() -> bool:
        assert live.airflow.run(run_id)["state"] in ("queued", "running"), live.airflow.task_instances(run_id)
        return any(not approval["response_received"] for approval in live.airflow.approvals(run_id))

    until(waits, 20 * MINUTES, "the review")
    return run_id


@pytest.fixture(scope="package")
def approved(live: Live, asked: str, airflow_page: Page) -> dict[str, Any]:
    """The verdict after the approval."""
    assert live.registry.get_registered_model(MODEL).aliases == {}
    airflow_page.goto(f"{live.ports.airflow_url}/dags/{DAILY}/runs/{asked}/tasks/registry.review/required_actions")
    expect(airflow_page.get_by_role("button", name="Approve")).to_be_visible()
    keep(airflow_page, "review")
    airflow_page.locator("[name=element_reason]").fill("Looks right to me.")
    airflow_page.get_by_role("button", name="Approve").click()
    until(lambda: (live.run_dir(DAY) / "review.json").exists(), 5 * MINUTES, "the answer")
    leave(airflow_page)
    assert live.finished(DAILY, asked) == "success"
    return live.read(DAY, "verdict.json")


@pytest.fixture(scope="package")
def published(live: Live, approved: dict[str, Any]) -> str:
    """The first bundle, which is published after the promotion without any further action.

    The home has a bundle in force already, that of its `make run`; the registry of the server knows nothing of it.
    """

    def of_the_server() -> str | None:
        return live.store.current() if live.store.history()[-1]["registry"] == "http" else None

    return str(until(of_the_server, 5 * MINUTES, "the first bundle"))


@pytest.fixture(scope="package")
def first_kept(live: Live, published: str) -> Kept:
    """The state of the home before the next day."""
    return live.kept()


@pytest.fixture(scope="package")
def unanswered(live: Live, published: str, first_kept: Kept) -> dict[str, Any]:
    """The verdict of the next day, triggered over REST, whose review nobody answers."""
    run_id = f"test__{NEXT_DAY}"
    live.airflow.trigger(run_id, NEXT_DAY, {"registry.promotion": "review", "registry.review_hours": 0.005})
    assert live.finished(DAILY, run_id) == "success"
    return live.read(NEXT_DAY, "verdict.json")


@pytest.fixture(scope="package")
def second(live: Live, published: str, unanswered: dict[str, Any], airflow_page: Page) -> str:
    """The bundle of the next day, after a person made its version champion in the browser."""
    assert live.champion() == "1" and live.store.current() == published
    form = open_form(live, airflow_page, "esans_promote")
    form.locator("[name=element_version]").fill(unanswered["version"])
    form.locator("[name=element_reason]").fill("I was on the train.")
    keep(airflow_page, "promote")
    form.get_by_role("button", name="Trigger", exact=True).click()
    bundle = until(lambda: {live.store.current()} - {published, None}, 5 * MINUTES, "the second bundle").pop()
    leave(airflow_page)
    return str(bundle)
