"""The steps that forget a user. The id never stands on a command line, in a template that Airflow keeps, or in a task's log."""

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.log import mask_secret

from dags.operators import PythonJobOperator

USER_PARAM = "user"  # `dags/plugins/forget_conf.py` takes it out of the run's conf
_VARIABLE = "ESANS_FORGET_USER"  # the job reads the id from here, and removes it at once


class OthersEnded(BaseSensorOperator):
    """Waits until no run of the other DAGs is at work. Between two looks it takes no slot.

    Args:
        dags: ids of the DAGs that work on the same home.
    """

    def __init__(self, *, dags: Sequence[str], **kwargs: Any) -> None:
        super().__init__(mode="reschedule", **kwargs)
        self.dags = list(dags)

    def poke(self, context: Context) -> bool:
        """Whether all runs have ended."""
        busy = [dag for dag in self.dags if context["ti"].get_dr_count(dag_id=dag, states=["running"])]
        if busy:
            self.log.info("waiting for runs of %s", ", ".join(busy))
        return not busy


class ForgetOperator(PythonJobOperator):
    """Hands the id of the form to `python -m jobs.forget`."""

    def execute(self, context: Context) -> None:
        """Run the job."""
        mask_secret(str(context["params"][USER_PARAM]))
        super().execute(context)

    def variables(self, context: Context) -> dict[str, str]:
        """The id."""
        return {_VARIABLE: str(context["params"][USER_PARAM])}
