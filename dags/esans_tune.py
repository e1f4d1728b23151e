"""Searches for better settings of one date's data, and puts them in force once a person has agreed."""

from datetime import timedelta

from airflow.sdk import DAG, chain

from dags.days import DAY, days
from dags.operators import HOME, PrepareOperator
from dags.params import dag_params
from dags.review import FORM, ProposalOperator
from dags.steps import DEFAULTS, GPU_POOL, RUN_DEFAULTS, Steps, action

DOC = """
### Search for better settings

Trains with other settings on the tables of a **day**, which the daily retraining must have made. The day is the last finished
one, unless you choose another as *Logical Date* at the top of the form. Today's settings are the first trial, so what is
proposed is never worse than these on validation. The hold-out is not looked at.

* After the **minutes** no trial starts, and the running one stops after its epoch. A run of the same date goes on there.
* *review* shows what is proposed and waits until somebody approves or rejects it. No answer rejects it. It is skipped if
  nothing better was found.
* After an approval, the settings are in force from the next run on. The form of the retraining shows them some minutes later.
  `esans_revoke_settings` takes them back.
* The page of all trials is `tuning/<date>/index.html` in the home folder.
"""

steps = Steps(records="tuning")
_ANSWER = "ti.xcom_pull(task_ids='review')"


def _answer(name: str) -> str:
    """A flag whose value is a part of the review's answer (a template)."""
    return f"--{name}={{{{ {_ANSWER}['{name}'] }}}}"


with DAG(
    dag_id="esans_tune",
    description="Search for better settings of one date's data; a person decides about them.",
    doc_md=DOC,
    schedule=days(""),
    max_active_runs=1,
    dagrun_timeout=timedelta(days=9),  # a day of search, and the week that a review may wait
    params=dag_params({"tuning"}),
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "training", "by hand"],
) as dag:
    tuning = PrepareOperator(
        task_id="tuning",
        job="tuning",
        arguments=[f"--date={DAY}", f"--home={HOME}"],
        record=steps.record("tuning"),
        execution_timeout=timedelta(hours=32),  # the longest search, and its last epoch
        pool=GPU_POOL,
        doc_md="Trains with other settings, one trial after the other, and writes what is proposed.",
    )
    review = ProposalOperator(
        task_id="review",
        record=steps.record("review"),
        params=FORM,
        doc_md="Waits for a person to approve or reject the settings; skipped if none are proposed.",
    )
    adopt_settings = action(
        "adopt_settings",
        "Puts the approved settings in force.",
        [f"--date={DAY}", _answer("proposal"), _answer("reason")],
        by=_answer("by").removeprefix("--by="),
    )
    chain(tuning, review, adopt_settings)
