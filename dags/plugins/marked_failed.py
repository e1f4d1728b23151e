"""A plugin of Airflow's api-server: an alert when somebody marks a run or a task as failed, of which no callback hears."""

import logging
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from airflow.models import DagRun

log = logging.getLogger(__name__)

_BY_HAND = "manually set"  # Airflow's own words, in which it tells a listener that a person did it
_OURS = "esans_"


class _Listener:
    @hookimpl
    def on_dag_run_failed(self, dag_run: "DagRun", msg: str) -> None:
        """Tell of a run that a person has marked."""
        if _BY_HAND in (msg or "") and dag_run.dag_id.startswith(_OURS):
            ended = [attempt for attempt in dag_run.get_task_instances() if str(attempt.state) == "failed"]
            _tell({"dag_run": dag_run}, ended)

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """Tell of a task that a person has marked, unless it ended with its run, which is told of itself."""
        if not (isinstance(error, str) and _BY_HAND in error and task_instance.dag_id.startswith(_OURS)):
            return
        run = task_instance.dag_run
        if str(run.state) not in ("failed", "success"):
            _tell({"dag_run": run, "task_instance": task_instance}, [task_instance])


def _tell(context: dict[str, Any], ended: list[Any]) -> None:
    """Send the alert and renew the pages beside the request of the person, who need not wait for it."""
    from dags.alerts import MARKED, MARKED_FAILED, describe  # every process of Airflow loads the plugin

    alert = describe(context, MARKED_FAILED, MARKED)
    from dags.operators import Attempt

    run = context["dag_run"]
    # What the thread gets is plain, because the session of the rows ends with the request.
    about = SimpleNamespace(dag_id=run.dag_id, data_interval_start=run.data_interval_start)
    attempts = [Attempt(one.task_id, one.start_date, one.run_id) for one in ended]
    threading.Thread(target=_send_and_renew, args=(alert, about, attempts), name="esans-alert").start()


def _send_and_renew(alert: dict[str, Any], run: Any, ended: list[Any]) -> None:
    from dags.alerts import send
    from dags.operators import end_of_run

    send(alert, log)
    end_of_run(run, ended, "somebody marked it as failed in Airflow")


class MarkedFailedPlugin(AirflowPlugin):
    """Registers the listener."""

    name = "esans_marked_failed"
    listeners = [_Listener()]
