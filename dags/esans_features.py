"""Makes the features of one logical date without training, or of a range of dates by Airflow's backfill."""

from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, chain

from dags.days import days
from dags.news import WhatIsNewOperator
from dags.params import dag_params
from dags.steps import DEFAULTS, RUN_DEFAULTS, Steps

DOC = """
### Features without training

Ingests a logical date and makes its three feature tables, for instance after an encoder was changed. To do so for many dates,
choose *Backfill* when you trigger this DAG, with *Missing and Errored Runs* or *All Runs*, or type

    airflow backfill create --dag-id esans_features --reprocess-behavior failed --from-date 2026-01-20 --to-date 2026-01-28

* Dates run in order, because each takes over the vectors of the date before. If a date fails, the later dates wait: mend the
  cause and clear the failed task.
* Settings and records go to `feature_runs/<date>` of the home folder. The results of the date's retraining (verdict, metrics,
  report) stay. Its clusters and models still belong to the old features until the date is retrained.
* The schedule only tells Airflow which dates there are. Runs that the schedule starts are skipped.
* It is safe to repeat a date: work whose input has not changed is not done again, and the same input gives the same bytes.
* The last task, *what_is_new*, names the tables that have new rows. If all features of the date were kept because nothing had
  changed, it is **skipped**, and the run is still a success. The events of the assets say the same of each table: `new`,
  `reused`, `why` and `rows` in their extra.
"""

steps = Steps(records="feature_runs")

with DAG(
    dag_id="esans_features",
    description="Ingest one logical date and make its feature tables; meant for backfills.",
    doc_md=DOC,
    schedule=days("@daily"),
    start_date=datetime(1990, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(days=2),
    params=dag_params({"data", "shop", "ingest", "pictures", "features", "gate", "spark", "run"}),
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "features"],
) as dag:
    prepare, gate_raw = steps.prepare_group(scheduled=False)
    ingest = steps.ingest_group()
    views, gate_features = steps.features_group()
    chain(gate_raw, ingest, views)
    for view in views:
        view.depends_on_past = True
    made = [view.task_id.rpartition(".")[2] for view in views]
    doc = "Names the tables that have new rows. Skipped if nothing had changed, so that all features of the date were kept."
    what_is_new = WhatIsNewOperator(task_id="what_is_new", record=steps.record("gate_features"), steps=made, doc_md=doc)
    chain(gate_features, what_is_new)
