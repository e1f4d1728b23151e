"""Forgets a user by hand: removes one person from all that the home keeps."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param, chain

from dags.forget_operator import USER_PARAM, ForgetOperator, OthersEnded
from dags.operators import HOME
from dags.params import reason_param
from dags.steps import BY, DEFAULTS, RUN_DEFAULTS

DOC = """
### A person's right to be forgotten

Removes a user from the tables of every date, and from records, pages, logs and databases of the home. From then on ingest
leaves the user out, even if the source still holds them. Models that learned from the user's events cannot be rewritten. The
record in `forgotten/` of the home lists them, with how long they stay in force and what you can do.

* It waits for runs of the other DAGs, and steps that start meanwhile wait for it. If it is cut short, clear it, or trigger it
  again.
* When the run has succeeded, the id is taken out of the run's conf and out of Airflow's audit log. A run that failed keeps it,
  so that it can be cleared. Delete such a run if you give up.
* The source itself is its owner's to clean.
"""

_OTHERS = ("daily_retraining", "features", "tune", "promote", "publish", "rollback", "revoke_settings")
_ABOUT: dict[str, Any] = {"minLength": 1, "maxLength": 1000, "pattern": r"\S", "title": "User"}

with DAG(
    dag_id="esans_forget",
    description="Remove one user from everything that the home keeps.",
    doc_md=DOC,
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=10),  # a review may keep a run of the retraining open for a week
    params={
        USER_PARAM: Param(type="string", description="Id of the user, exactly as the source has it.", **_ABOUT),
        "reason": reason_param("in the record; do not name the user, give the number of a ticket"),
    },
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "by hand"],
) as dag:
    wait = OthersEnded(
        task_id="wait",
        dags=[f"esans_{name}" for name in _OTHERS],
        poke_interval=60,
        timeout=timedelta(days=9).total_seconds(),
        doc_md="Waits until no run of the other DAGs is at work.",
    )
    forget = ForgetOperator(
        task_id="forget",
        job="forget",
        arguments=[f"--home={HOME}", "--action={{ run_id }}", f"--by={BY}", "--reason={{ params.reason }}"],
        record=f"{HOME}/actions/{{{{ run_id }}}}/forget.json",
        execution_timeout=timedelta(hours=6),
        doc_md="Removes the user, and records what was done without naming them.",
    )
    chain(wait, forget)
