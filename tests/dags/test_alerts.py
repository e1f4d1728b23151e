"""Alerts, received by a real HTTP endpoint and a mail server; whatever happens to one, the run goes on."""

import json
import runpy
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_string
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import structlog

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]
STATES = (("tuning", "failed"), ("review", "skipped"))
LOG_URL = "http://127.0.0.1:8080/dags/d/runs/r/tasks/t?try_number=1"


class Received(list[tuple[str, dict[str, str], Any]]):
    """Path, headers and body of each request to the endpoint at `port`, which answers with `status`."""

    port = 0
    status = 200


@pytest.fixture
def endpoint() -> Iterator[Received]:
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, dict(self.headers), json.loads(body)))
            self.send_response(received.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        received.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield received
        server.shutdown()


def _context(**changes: Any) -> Any:
    date = datetime(2026, 1, 28, tzinfo=UTC)
    return {
        "dag_run": SimpleNamespace(dag_id="d", run_id="r", logical_date=date),
        "task_instance": SimpleNamespace(dag_id="d", run_id="r", task_id="t", log_url=LOG_URL),
        "exception": ValueError("the table is empty. Remedy: fill it."),
    } | changes


def _connect(monkeypatch: pytest.MonkeyPatch, **about: Any) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", json.dumps(about))


def test_a_failed_task_is_told_with_its_message_and_where_to_look(endpoint: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.alerts import AlertNotifier

    extra = {"endpoint": "/alerts", "headers": {"X-Team": "retrieval"}}
    about = {"host": "127.0.0.1", "port": endpoint.port, "login": "bot", "password": "secret", "extra": extra}
    _connect(monkeypatch, conn_type="http", **about)
    AlertNotifier()(_context())
    ((path, headers, body),) = endpoint
    assert path == "/alerts" and headers["X-Team"] == "retrieval" and headers["Authorization"].startswith("Basic ")
    assert body == {
        "dag": "d",
        "run": "r",
        "task": "t",
        "logical_date": "2026-01-28T00:00:00+00:00",
        "state": "failed",
        "message": "the table is empty. Remedy: fill it.",
        "url": LOG_URL,
    }


def test_a_connection_may_be_one_address(endpoint: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.alerts import AlertNotifier

    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", f"http://127.0.0.1:{endpoint.port}/hook")
    AlertNotifier()(_context())
    _connect(monkeypatch, conn_type="webhook", host=f"http://127.0.0.1:{endpoint.port}/whole")
    AlertNotifier()(_context())
    _connect(monkeypatch, conn_type="slackwebhook", password=f"http://127.0.0.1:{endpoint.port}/token")
    AlertNotifier()(_context())
    assert [path for path, _, _ in endpoint] == ["/hook", "/whole", "/token"]
    assert endpoint[2][2] == {"text": f"d / r / t: failed\nthe table is empty. Remedy: fill it.\n{LOG_URL}"}


def test_the_alert_of_a_review_opens_the_form(endpoint: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.alerts import AWAITING_REVIEW, AlertNotifier

    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", f"http://127.0.0.1:{endpoint.port}/hook")
    AlertNotifier(AWAITING_REVIEW, "open the page and answer")(_context(exception=None))
    assert endpoint[0][2]["url"].endswith("/dags/d/runs/r/tasks/t/required_actions")


def test_a_run_that_was_stopped_is_told_and_one_whose_task_has_told_is_not(
    endpoint: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dags.alerts import AlertNotifier

    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", f"http://127.0.0.1:{endpoint.port}/hook")
    notifier = AlertNotifier("stopped", "clear its last task")
    notifier(_context(reason="task_failure"))
    assert endpoint == []
    notifier(_context(reason="timed_out", exception=None))
    ((_, _, body),) = endpoint
    assert body["state"] == "timed_out" and body["task"] is None and body["message"].startswith("The run took longer")
    assert body["url"].endswith("/dags/d/runs/r")


def test_a_deadline_that_was_missed_is_told_from_the_little_that_its_callback_gets(
    endpoint: Received, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.execution_time.callback_supervisor import execute_callback

    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", f"http://127.0.0.1:{endpoint.port}/hook")
    run = {"dag_id": "d", "dag_run_id": "r+1", "logical_date": "2026-01-28T00:00:00Z"}
    arguments = {"state": "late", "message": "see where it is", "context": {"dag_run": run, "deadline": {"id": "1"}}}
    done, error = execute_callback("dags.alerts.AlertNotifier", arguments, "", None, structlog.get_logger())
    assert done, error
    ((_, _, body),) = endpoint
    assert body["dag"] == "d" and body["run"] == "r+1" and body["state"] == "late" and body["message"] == "see where it is"
    assert body["logical_date"] == "2026-01-28T00:00:00Z" and body["url"].endswith("/dags/d/runs/r%2B1")


@pytest.mark.parametrize(("state", "told"), [("queued", 1), ("running", 1), ("failed", 0), ("success", 0)])
def test_a_run_that_has_ended_is_never_late(state: str, told: int, endpoint: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.alerts import AlertNotifier

    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", f"http://127.0.0.1:{endpoint.port}/hook")
    run = {"dag_id": "d", "dag_run_id": "r", "logical_date": "2026-01-28T00:00:00Z", "state": state}
    AlertNotifier("late", "see where it is").notify({"dag_run": run, "deadline": {"id": "1"}})
    assert len(endpoint) == told


class MailServer(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to be handed one mail."""

    mails: ClassVar[list[str]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 ready\r\n")
        while line := self.rfile.readline():
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                self.mails.append(b"".join(iter(self.rfile.readline, b".\r\n")).decode())
            self.wfile.write(b"250 done\r\n")


def test_an_alert_is_mailed_to_the_address_of_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.alerts import AlertNotifier

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        extra = {"to": "team@example.org", "from_email": "esans@example.org", "disable_ssl": True, "disable_tls": True}
        _connect(monkeypatch, conn_type="smtp", host="127.0.0.1", port=server.server_address[1], extra=extra)
        AlertNotifier()(_context(exception=ValueError("<b>no items</b>")))
        server.shutdown()
    (mail,) = MailServer.mails
    assert "To: team@example.org" in mail and "Subject: d 2026-01-28T00:00:00+00:00: failed" in mail
    body = message_from_string(mail).get_payload(0).get_payload(decode=True).decode()
    assert "&lt;b&gt;no items&lt;/b&gt;" in body and LOG_URL in body


@pytest.mark.parametrize(
    "about", [{"conn_type": "http", "host": "127.0.0.1", "port": 9}, {"conn_type": "ftp", "host": "h"}, None]
)
def test_an_alert_that_cannot_be_sent_changes_nothing(about: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.alerts import AlertNotifier

    if about is None:
        monkeypatch.delenv("AIRFLOW_CONN_ESANS_ALERTS", raising=False)
    else:
        _connect(monkeypatch, **about)
    AlertNotifier()(_context())


def test_a_refusing_endpoint_does_not_bring_its_address_into_the_log(
    endpoint: Received, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    from dags.alerts import AlertNotifier

    endpoint.status = 500
    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", f"http://127.0.0.1:{endpoint.port}/token-of-a-webhook")
    AlertNotifier()(_context())
    assert len(endpoint) == 1
    printed = capsys.readouterr()
    assert "token-of-a-webhook" not in caplog.text + printed.out + printed.err


def test_what_a_person_marks_as_failed_is_told_once(endpoint: Received, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the plugin that the api-server loads. The words are those in which Airflow's own server tells its listeners."""
    import inspect

    from airflow.api_fastapi.core_api.services.public import dag_run, task_instances

    (listener,) = runpy.run_path(str(ROOT / "dags" / "plugins" / "marked_failed.py"))["MarkedFailedPlugin"].listeners
    monkeypatch.setenv("AIRFLOW_CONN_ESANS_ALERTS", f"http://127.0.0.1:{endpoint.port}/hook")
    of_run, of_task = "Dag Run's state was manually set to `failed`.", "TaskInstance's state was manually set to `failed`."
    for words, module in ((of_run, dag_run), (of_task, task_instances)):
        assert words.split("`")[0] in inspect.getsource(module)
    date = datetime(2026, 1, 28, tzinfo=UTC)
    about = {"dag_id": "esans_tune", "run_id": "manual__1"}
    run = SimpleNamespace(**about, logical_date=date, data_interval_start=date, state="running")
    task = SimpleNamespace(**about, task_id="tuning", log_url=LOG_URL, dag_run=run, start_date=date)
    ended = [SimpleNamespace(**about, task_id=name, start_date=date, state=state) for name, state in STATES]
    run.get_task_instances = lambda: ended
    pages: list[Any] = []
    monkeypatch.setattr("dags.operators.end_of_run", lambda run, ended, why: pages.append([one.task_id for one in ended]))
    listener.on_task_instance_failed("running", task, ValueError("manually set wrong"))  # the step's own error
    listener.on_dag_run_failed(run, "task_failure")
    listener.on_dag_run_failed(SimpleNamespace(**vars(run) | {"dag_id": "another"}), of_run)
    listener.on_task_instance_failed("running", task, of_task)
    _wait_for_alerts()
    run.state = "failed"  # marking a run ends its tasks, and Airflow tells of these first
    listener.on_task_instance_failed("running", task, of_task)
    listener.on_dag_run_failed(run, of_run)
    _wait_for_alerts()
    (first, second) = [body for _, _, body in endpoint]
    assert (first["task"], first["state"], first["url"]) == ("tuning", "marked_failed", LOG_URL)
    assert (second["task"], second["state"], second["run"]) == (None, "marked_failed", "manual__1")
    assert "Remedy" in first["message"]
    assert pages == [["tuning"], ["tuning"]]


def _wait_for_alerts() -> None:
    for thread in threading.enumerate():
        if thread.name == "esans-alert":
            thread.join()
