"""The champion becomes what production serves."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable

from dags.assets import CHAMPION, SERVING
from dags.steps import DEFAULTS, action

DOC = """
### Publish the champion

Puts the serving bundle of the version that the alias `champion` names in force: after each promotion, every hour (somebody may
have moved the alias in MLflow), and by hand.

* A version without a passing gate report, or with one that was changed, is **refused**: the alias goes back to the version of
  the last published bundle, this run fails, and an alert tells of it.
* Repeating it changes nothing while the champion stays the same.
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
    tags=["esans", "serving"],
) as dag:
    publish_champion = action(
        "publish_champion",
        "Checks the champion's gate report and bundle, then puts the bundle in force.",
        [],
        inlets=[CHAMPION],
        outlets=[SERVING],
    )
