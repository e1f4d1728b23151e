"""Takes back by hand the settings that somebody agreed to after a search."""

from datetime import timedelta

from airflow.sdk import DAG

from dags.params import reason_param
from dags.steps import DEFAULTS, RUN_DEFAULTS, action

DOC = """
### Back to the settings before

Takes back the settings that somebody agreed to in `esans_tune`, and records who asked for it and why. From the next run on, the
settings of the environment and the defaults hold again. If nothing was agreed to, this changes nothing.
"""

with DAG(
    dag_id="esans_revoke_settings",
    description="Take back the settings that were agreed to after a search.",
    doc_md=DOC,
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    params={"reason": reason_param("with the action")},
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "training", "by hand"],
) as dag:
    revoke_settings = action("adopt_settings", "Takes back what was agreed to.", ["--revoke", "--reason={{ params.reason }}"])
