"""Publishes the champion, so that production serves it."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from dags.assets import CHAMPION, SERVING
from dags.steps import DEFAULTS, RUN_DEFAULTS, action

DOC = """
### Publish the champion

Puts the serving bundle of the champion in force, which is the version that the alias `champion` names. It runs after each
promotion, every hour (because somebody may have moved the alias in MLflow), and when somebody triggers it.

* A version without a passing gate report, or with one that was changed, is **refused**: the alias goes back to the version of
  the last published bundle, this run fails, and an alert says so.
* Repeating it changes nothing as long as the champion stays the same.
"""

with DAG(
    dag_id="esans_publish",
    description="Publish the champion as the serving bundle; refuse what was not checked.",
    doc_md=DOC,
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("@hourly", timezone="UTC"), assets=CHAMPION),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=2),
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "serving"],
) as dag:
    publish_champion = action(
        "publish_champion",
        "Checks the champion's gate report and bundle, then puts the bundle in force.",
        [],
        inlets=[CHAMPION],
        outlets=[SERVING],
    )
