"""Alerts: they say in the log what went wrong, and send it on if the connection `esans_alerts` exists.

The connection's type decides how an alert is sent. `http` and `webhook` send it as JSON, `slackwebhook` sends its text, and
`smtp` sends a mail to the address in `to` of the connection's extra. A web address can stand whole in the host, or in the
password if the address itself is a secret. It can also be given in parts: host, port, `schema` (http or https), and `endpoint`
of the extra. Login and password are sent as basic authentication, and `headers` of the extra are sent as they are.
"""

import html
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from airflow.sdk import BaseHook, BaseNotifier, Connection, Context
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowNotFoundException

CONNECTION = "esans_alerts"
AWAITING_REVIEW = "awaiting_review"
MARKED_FAILED = "marked_failed"
MARKED = "somebody marked it as failed in Airflow. Remedy: ask who did, and why; to go on from there, clear it."
ENDED = {  # by Airflow's own words
    "timed_out": "The run took longer than its limit, and Airflow has ended it. Remedy: see the log of its last task; clear "
    "that task to go on from there.",
    "all_tasks_deadlocked": "No task of the run can start any more. Remedy: clear the tasks that stand in the way.",
}
STOPPED = "The run was stopped. Remedy: see the log of its last task, then clear that task to go on from there."
_SECONDS = 10
_MAX_MESSAGE = 4000


class AlertNotifier(BaseNotifier):
    """Says that a task or a run needs a person. It never raises: an alert that cannot be sent must not change a run.

    It works as a failure callback of a task or a DAG, as the callback of a deadline, and as the notifier of a review. If a run
    failed because of a task, no alert is sent for the run, because the task has sent its own. No alert is sent if a deadline
    passes after the end of its run: Airflow keeps the deadline of a run that failed.

    Args:
        state: what has happened; used if the context does not say it.
        message: what to do about it; used if there is no exception that says it.
        context: passed by Airflow to the callback of a deadline.
    """

    def __init__(self, state: str = "failed", message: str = "", context: Context | None = None) -> None:
        super().__init__(context)
        self.state, self.message = state, message

    def notify(self, context: Context) -> None:
        """Log the alert and send it on."""
        if context.get("reason") == "task_failure" or _ended(context.get("dag_run")):
            return
        send(describe(context, self.state, self.message), self.log)


def send(alert: Mapping[str, Any], log: Any) -> None:
    """Log an alert, and send it on if the connection exists. It never raises.

    Args:
        alert: as `describe` gives it.
        log: a logger.
    """
    log.error("alert: %s", json.dumps(alert))
    try:
        try:
            connection = BaseHook.get_connection(CONNECTION)
        except AirflowNotFoundException:
            return
        if connection.conn_type in ("http", "webhook"):
            _post(connection, alert)
        elif connection.conn_type == "slackwebhook":
            _post(connection, {"text": _text(alert)})
        elif connection.conn_type == "smtp":
            _mail(connection, alert)
        else:
            log.error(
                "the alert was not sent: connection %s is of type '%s'. Remedy: make it http, slackwebhook or smtp.",
                CONNECTION,
                connection.conn_type,
            )
    except Exception as error:
        # The log gets neither the address nor the error's text: both may hold the secret part of a webhook's address.
        log.error("the alert could not be sent by connection %s: %s", CONNECTION, type(error).__name__)


def component_alert(name: str, home: str, said: str) -> dict[str, Any]:
    """The alert about a component of the stack that ends again and again.

    Args:
        name: the component.
        home: home folder of the stack.
        said: the last lines of its log.
    """
    message = f"the {name} of {home} has ended three times within an hour, and was started again each time. It said: {said}"
    empty: dict[str, Any] = dict.fromkeys(("dag", "run", "task", "logical_date"))
    url = conf.get("api", "base_url", fallback="http://localhost:8080")
    return empty | {"state": "component_down", "message": message[:_MAX_MESSAGE], "url": url}


def describe(context: Context | Mapping[str, Any], state: str, message: str) -> dict[str, Any]:
    """What an alert says, as JSON values: `dag`, `run`, `task`, `logical_date`, `state`, `message` and `url`.

    Args:
        context: that of a task or of a DAG's callback, or the smaller one that the callback of a deadline gets.
        state: used unless the context has a reason.
        message: used unless the context has an exception, or a reason that says more. With none of them, the record of the step
            is quoted, and if there is none, the message points to the log.
    """
    run, task = context.get("dag_run"), context.get("task_instance") or context.get("ti")
    run_of = run.get if isinstance(run, Mapping) else lambda name: getattr(run, name, None)
    dag = run_of("dag_id") or getattr(task, "dag_id", None) or getattr(context.get("dag"), "dag_id", None)
    name = run_of("run_id") or run_of("dag_run_id") or getattr(task, "run_id", None) or context.get("run_id")
    # Where a run works on a day, its interval is that day, whenever the run was asked for.
    date, error = run_of("data_interval_start") or run_of("logical_date"), context.get("exception")
    reason = context.get("reason")
    about_run = reason is not None or isinstance(run, Mapping)  # a run that timed out hands over its last task only
    url = f"{conf.get('api', 'base_url', fallback='http://localhost:8080').rstrip('/')}/dags/{dag}/runs/{quote(str(name))}"
    return {
        "dag": dag,
        "run": name,
        "task": None if about_run else getattr(task, "task_id", None),
        "logical_date": date.isoformat() if isinstance(date, datetime) else date,
        "state": reason or state,
        "message": (str(error) if error else ENDED.get(str(reason)) or message or _recorded(task) or "see the log")[
            :_MAX_MESSAGE
        ],
        "url": url if about_run or task is None else _page(url, task, state),
    }


def _recorded(task: Any) -> str:
    """The message in the record of a task's step; empty if there is none."""
    path = Path(getattr(getattr(task, "task", None), "record", ""))
    try:
        return str(json.loads(path.read_text()).get("message") or "")
    except (OSError, ValueError):
        return ""


def _page(url: str, task: Any, state: str) -> str:
    """Where to go from a task's alert: to the form in which to answer a review, else to the task's log."""
    if state == AWAITING_REVIEW:
        return f"{url}/tasks/{task.task_id}/required_actions"
    return getattr(task, "log_url", url)


def _ended(run: object) -> bool:
    """Whether a run had ended when its deadline passed; only the callback of a deadline gets the run as a mapping."""
    return isinstance(run, Mapping) and run.get("state") in ("success", "failed")


def _post(connection: Connection, body: Mapping[str, Any]) -> None:
    extra = connection.extra_dejson
    login = (connection.login, connection.password or "") if connection.login else None
    answer = requests.post(_address(connection), json=body, auth=login, headers=extra.get("headers"), timeout=_SECONDS)
    answer.raise_for_status()


def _address(connection: Connection) -> str:
    """The web address of a connection, from each of the forms in which Airflow's own connections write one."""
    for whole in (connection.password, connection.host):
        if whole and whole.startswith(("http://", "https://")):
            return whole
    scheme = "https" if connection.schema == "https" else "http"
    # If a connection is given as a URI, Airflow puts the path of the URI into the schema.
    path = connection.extra_dejson.get("endpoint") or ("" if connection.schema in ("http", "https") else connection.schema)
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{connection.host}{port}/{(path or '').lstrip('/')}"


def _mail(connection: Connection, alert: Mapping[str, Any]) -> None:
    from airflow.providers.smtp.hooks.smtp import SmtpHook  # most runs send no mail

    with SmtpHook(smtp_conn_id=CONNECTION) as hook:
        hook.send_email_smtp(
            to=connection.extra_dejson["to"],
            subject=f"{alert['dag'] or 'ESANS'} {alert['logical_date'] or alert['run'] or 'stack'}: {alert['state']}",
            html_content=f"<pre>{html.escape(_text(alert))}</pre>",
        )


def _text(alert: Mapping[str, Any]) -> str:
    where = " / ".join(str(alert[name]) for name in ("dag", "run", "task") if alert[name])
    return f"{where or 'ESANS stack'}: {alert['state']}\n{alert['message']}\n{alert['url']}"
