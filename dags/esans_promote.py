"""Promotion by hand: a person makes a version champion."""

from datetime import timedelta

from airflow.sdk import DAG, Param

from dags.assets import CHAMPION
from dags.params import choices, chosen, reason_param
from dags.steps import DEFAULTS, RUN_DEFAULTS, action
from jobs.registry.choices import version_choices

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
        "version": Param(
            type=["string", "integer"],
            minimum=1,
            pattern=r"^[1-9]\d{0,17}( .*)?$",
            examples=choices(version_choices),
            title="Version",
            description="Click into the field to choose a version, or type its number in the registry.",
        ),
        "reason": reason_param("with the version"),
    },
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "registry", "by hand"],
) as dag:
    promote_version = action(
        "promote_version",
        "Checks the version's gate report, then moves the alias.",
        [chosen("version", "version"), "--reason={{ params.reason }}"],
        outlets=[CHAMPION],
    )
