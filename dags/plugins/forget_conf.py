"""A plugin of Airflow's scheduler: takes the id of a forgotten user out of Airflow's own database when the run has succeeded.

Airflow keeps what a run was triggered with: as the run's conf, and in its audit log. A task may not write there. So a listener
does it, in the process that records the end of the run and in the same transaction.
"""

import json
import logging
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from airflow.models import DagRun

log = logging.getLogger(__name__)

_DAG, _USER, _GONE = "esans_forget", "user", "(forgotten)"


class _Listener:
    @hookimpl
    def on_dag_run_success(self, dag_run: "DagRun", msg: str) -> None:
        """Mask the id in the conf of the run, and in the entries of the audit log about this DAG."""
        if dag_run.dag_id != _DAG:
            return
        # Here, because every process of Airflow loads the plugin, and only the scheduler needs the tables.
        from airflow.models import Log
        from sqlalchemy import select
        from sqlalchemy.orm import object_session

        user = str((dag_run.conf or {}).get(_USER, ""))
        dag_run.conf = dict(dag_run.conf or {}) | {_USER: _GONE}
        session = object_session(dag_run)
        if session is None or not user:
            return
        for entry in session.scalars(select(Log).where(Log.dag_id == _DAG, Log.extra.is_not(None))):
            if (masked := without(entry.extra, user)) != entry.extra:
                entry.extra = masked
        log.info("the id was taken out of run %s", dag_run.run_id)


def without(extra: str | None, user: str) -> str | None:
    """What an entry of the audit log says, without the id in a conf."""
    try:
        values: Any = json.loads(extra or "")
        conf = values["conf"]
    except (ValueError, KeyError, TypeError):
        return extra
    if not isinstance(conf, dict) or str(conf.get(_USER)) != user:
        return extra
    return json.dumps(values | {"conf": conf | {_USER: _GONE}})


class ForgetConfPlugin(AirflowPlugin):
    """Registers the listener."""

    name = "esans_forget_conf"
    listeners = [_Listener()]
