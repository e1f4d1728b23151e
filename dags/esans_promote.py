"""Promotion by hand: a person makes a version champion."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from dags.assets import CHAMPION
from dags.params import reason_param
from dags.steps import DEFAULTS, action

DOC = """
### Make a version champion

Moves the alias `champion` of the registry to a version, and records who asked for it and why. The version must carry a passing
gate report that nobody has changed. `esans_publish` then puts the version into production. Repeating this changes nothing.
"""

with DAG(
    dag_id="esans_promote",
    description="Move the alias champion to a version that has passed its gates.",
    doc_md=DOC,
    schedule=None,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    params={
        "version": Param(type="integer", minimum=1, title="Version", description="Number of the version in the registry."),
        "reason": reason_param("with the version"),
    },
    default_args=DEFAULTS,
    tags=["esans", "registry", "by hand"],
) as dag:
    promote_version = action(
        "promote_version",
        "Checks the version's gate report, then moves the alias.",
        ["--version={{ params.version }}", "--reason={{ params.reason }}"],
        outlets=[CHAMPION],
    )
