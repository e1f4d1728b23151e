"""Rollback by hand: production goes back to an earlier serving bundle in one step."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from dags.assets import SERVING
from dags.params import choices, chosen, reason_param
from dags.steps import DEFAULTS, RUN_DEFAULTS, action
from jobs.registry.choices import bundle_choices

DOC = """
### Back to an earlier bundle

Puts an earlier serving bundle back in force, and the alias `champion` with it, and records who asked for it and why. Without
a name, it takes the last other bundle that was in force and that nobody has taken back, rejected or deleted since; the log says
which ones it passed over, and why. If you clear the run, it goes back to the same bundle again. If you trigger a new run
without a name, it goes back one bundle more. It waits for no other step.
"""

with DAG(
    dag_id="esans_rollback",
    description="Put an earlier serving bundle and its version back in force.",
    doc_md=DOC,
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    params={
        "bundle": Param(
            None,
            type=["null", "string"],
            pattern=r"^\d{4}-\d{2}-\d{2}-v[1-9]\d*-[0-9a-f]{8}( .*)?$",
            examples=choices(bundle_choices),
            title="Bundle",
            description="Click into the field to choose a published bundle. Empty: the last one that nobody took back.",
        ),
        "reason": reason_param("with the version and in the history of bundles"),
    },
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "serving", "by hand"],
) as dag:
    rollback = action(
        "rollback",
        "Checks the bundle, then puts it and its version back in force.",
        [chosen("to", "bundle"), "--reason={{ params.reason }}"],
        outlets=[SERVING],
    )
