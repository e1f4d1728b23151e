"""The few calls of Airflow's public REST API that a local stack needs."""

import copy
import datetime as dt
import time
from typing import Any

import requests

from infra.local.environment import USER
from jobs.pages.addresses import DAILY

_TIMEOUT = 30.0
_ATTEMPTS = 4
_AIRFLOWS_SLOTS = 128  # of the default pool


class ApiError(RuntimeError):
    """The api-server refused a call; the message is its own, `status` its HTTP status (0: no answer)."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class AirflowClient:
    """Calls to one api-server, about one DAG.

    Args:
        url: address of the api-server, without a path.
        password: password of the user `admin`.
        dag_id: the DAG that calls are about; `about` gives a client for another one.
    """

    def __init__(self, url: str, password: str, dag_id: str = DAILY) -> None:
        self._url, self._password, self._dag_id = url, password, dag_id
        self._session = requests.Session()
        self._session.trust_env = False  # loopback never goes through a proxy

    def about(self, dag_id: str) -> "AirflowClient":
        """The same login for another DAG."""
        other = copy.copy(self)
        other._dag_id = dag_id
        return other

    def health(self) -> dict[str, str | None]:
        """State of each component ('healthy' or not); empty while the api-server does not answer."""
        try:
            answer = self._session.get(f"{self._url}/api/v2/monitor/health", timeout=5)
            answer.raise_for_status()
        except requests.RequestException:
            return {}
        return {name: part.get("status") for name, part in answer.json().items()}

    def dag(self) -> dict[str, Any] | None:
        """The DAG as the api-server knows it, or None while it does not know it."""
        try:
            return self._call("GET", "")
        except ApiError:
            return None

    def import_errors(self) -> list[str]:
        """Why DAG files could not be imported."""
        return [error["stack_trace"] for error in self._call("GET", "/api/v2/importErrors")["import_errors"]]

    def unpause(self) -> None:
        """Let the scheduler work on the DAG."""
        self._call("PATCH", "", json={"is_paused": False})

    def runs(self, *, date: dt.date | None = None, unfinished: bool = False, latest: int | None = None) -> list[dict[str, Any]]:
        """DAG runs of one logical date, or of all; only unfinished ones if asked for, or only so many of the latest."""
        params: dict[str, Any] = {"limit": latest or 100} | ({"order_by": "-run_after"} if latest else {})
        if date is not None:
            params |= {"logical_date_gte": _midnight(date), "logical_date_lte": _midnight(date)}
        if unfinished:
            params["state"] = ["queued", "running"]
        return self._call("GET", "/dagRuns", params=params)["dag_runs"]

    def run(self, run_id: str) -> dict[str, Any]:
        """One DAG run."""
        return self._call("GET", f"/dagRuns/{run_id}")

    def trigger(self, run_id: str | None, date: dt.date | dt.datetime | None, conf: dict[str, Any]) -> str:
        """Start a new run; returns its name, and raises `ApiError` with the reason when Airflow refuses the conf.

        Args:
            run_id: name of the new run; None lets the DAG choose it.
            date: the day to work on, or a moment of it (UTC); None for a DAG that does not work on a day.
            conf: parameters of the run.
        """
        moment = date.isoformat() if isinstance(date, dt.datetime) else date and _midnight(date)
        made = self._call("POST", "/dagRuns", json={"dag_run_id": run_id, "logical_date": moment, "conf": conf})
        return str(made["dag_run_id"])

    def clear(self, run_id: str) -> None:
        """Run every task of an existing run again."""
        body = {"dry_run": False, "only_failed": False, "run_on_latest_version": True}
        self._call("POST", f"/dagRuns/{run_id}/clear", json=body)

    def fail(self, run_id: str) -> None:
        """Mark a run as failed, which ends its tasks."""
        self._call("PATCH", f"/dagRuns/{run_id}", json={"state": "failed"})

    def delete(self, run_id: str) -> None:
        """Forget a finished run."""
        self._call("DELETE", f"/dagRuns/{run_id}")

    def task_instances(self, run_id: str) -> list[dict[str, Any]]:
        """The tasks of a run with their states."""
        return self._call("GET", f"/dagRuns/{run_id}/taskInstances", params={"limit": 100})["task_instances"]

    def approvals(self, run_id: str) -> list[dict[str, Any]]:
        """The questions that a run asks people, or has asked: subject, options, who answered, and the waiting task instance."""
        return self._call("GET", f"/dagRuns/{run_id}/hitlDetails")["hitl_details"]

    def asset_events(self, task_id: str) -> list[dict[str, Any]]:
        """The events of assets that a task of the DAG has caused, latest first, with their extras."""
        given = {"source_dag_id": self._dag_id, "source_task_id": task_id, "order_by": "-timestamp"}
        return self._call("GET", "/api/v2/assets/events", params=given)["asset_events"]

    def ensure_pool(self, name: str, slots: int, description: str) -> None:
        """Make a pool unless there is one of that name, so that changes by its owner stay."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        try:
            self._call("POST", "/api/v2/pools", json=body)
        except ApiError as error:
            if error.status != requests.codes.conflict:
                raise

    def limit_default_pool(self, slots: int) -> None:
        """Give the pool of all other tasks so many slots, unless its owner has given it another number than Airflow does."""
        pool = "/api/v2/pools/default_pool"
        if self._call("GET", pool)["slots"] == _AIRFLOWS_SLOTS:
            self._call("PATCH", f"{pool}?update_mask=slots", json={"pool": "default_pool", "slots": slots})

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        url = self._url + (path if path.startswith("/api/") else f"/api/v2/dags/{self._dag_id}{path}")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._session.request(method, url, timeout=_TIMEOUT, **arguments)
            except requests.ConnectionError:
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(attempt)
                continue
            if answer.status_code == requests.codes.unauthorized:
                self._log_in()
            elif answer.status_code >= 500 and method == "GET" and attempt < _ATTEMPTS:
                time.sleep(attempt)  # SQLite was locked for longer than its time-out
            elif not answer.ok:
                raise ApiError(f"{method} {url}: {answer.status_code} {_detail(answer)}", answer.status_code)
            else:
                return answer.json() if answer.content else None
        raise ApiError(f"{method} {url}: no answer after {_ATTEMPTS} attempts")

    def _log_in(self) -> None:
        body = {"username": USER, "password": self._password}
        answer = self._session.post(f"{self._url}/auth/token", json=body, timeout=_TIMEOUT)
        if not answer.ok:
            raise ApiError(f"the api-server refused the login: {answer.status_code} {_detail(answer)}", answer.status_code)
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _midnight(date: dt.date) -> str:
    return f"{date.isoformat()}T00:00:00Z"


def _detail(answer: requests.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError):
        return answer.text[:500]
