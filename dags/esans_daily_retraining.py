"""The daily retraining of the retrieval model, one DAG run per logical date: wires the steps; `jobs/` does the work."""

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, TaskGroup, TriggerRule, chain
from airflow.sdk.definitions.callback import SyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from dags import assets as a
from dags import links
from dags.alerts import AlertNotifier
from dags.days import days
from dags.params import dag_params
from dags.steps import DEFAULTS, GPU_POOL, RUN_DEFAULTS, Steps
from jobs.pages.addresses import DAILY

DOC = """
### Daily retraining with semantic-aware negatives (ESANS, WWW 2025)

One run takes the catalogue and the log up to its **day** (in UTC), rebuilds features and clusters, trains a challenger and a
uniform-negatives baseline, and moves the registry alias `champion` only when the challenger passes the gate.

* **The day** is the last finished one, unless you choose another as *Logical Date* at the top of the form. The name of the
  run says its kind and its day. A day may have several runs. To change a setting, press *Trigger* on the page of the
  earlier run, and choose *Trigger again with this config*. The form opens with that run's values.
* A **gate** that finds a critical failure stops the run, and the champion stays. Warnings go into the report.
* **Promotion** decides what happens to a version that passed: `auto` makes it champion, `review` lets the run wait at *review*
  until somebody approves or rejects it (no answer rejects it), and `never` only registers it.
* Bad data is never retried. Any other failure is retried twice, with back-off. If a step fails for good, an **alert** says so.
* If a day is run again with the same settings, it writes the same bytes again. Tables are named by their digest.
* The form shows the settings of `jobs.base.settings`. All of them also work as flags when you run a job by hand.
* The tasks from training to promotion have the links *MLflow run*, *Model version*, *Gate report*, *Data Docs* and *Report*.
* The tab *Report* of a run shows the report of its date, also if the run failed.
"""

LATE = "The run was queued a day ago and has not ended. Remedy: see which task it is at; a review may be waiting for an answer."

steps = Steps()

with DAG(
    dag_id=DAILY,
    description="Ingest, cluster, train, evaluate and promote the retrieval model of one logical date.",
    doc_md=DOC,
    # The run of a day starts when the day is over. Its events are the last ones used.
    schedule=days(os.environ.get("ESANS_SCHEDULE", "@daily")),
    start_date=datetime(1990, 1, 1, tzinfo=UTC),  # a run of any earlier date would never start; public logs begin in 1995
    catchup=False,
    max_active_runs=1,  # a date builds upon the one before it
    dagrun_timeout=timedelta(days=8),  # a day of work, and the week that a review may wait
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT,
        # Airflow fails to clear a run whose deadline has a timedelta (apache/airflow #70368). It takes seconds as well.
        interval=timedelta(hours=24).total_seconds(),  # type: ignore[arg-type]
        callback=SyncCallback(AlertNotifier, kwargs={"state": "late", "message": LATE}),
    ),
    params=dag_params(),
    default_args=DEFAULTS,
    **RUN_DEFAULTS,
    tags=["esans", "retrieval", "training"],
) as dag:
    prepare, gate_raw = steps.prepare_group()
    ingest = steps.ingest_group()
    views, gate_features = steps.features_group()

    with TaskGroup("clusters", tooltip="Multimodal semantic-aware clustering"):
        doc = "Aligns the views and fits the cascaded codebooks, warm from the previous date."
        fit_codebooks = steps.python("fit_codebooks", doc, reads=[a.ITEMS, *a.FEATURES], writes=[a.CODEBOOKS], hours=2)
        doc = "Gives each item its primary and secondary cluster, by codebooks that Spark broadcasts."
        made = [a.CLUSTERS, a.CLUSTER_INDEX]
        assign_clusters = steps.spark("assign_clusters", doc, reads=[*a.FEATURES, a.CODEBOOKS], writes=made, hours=2)
        doc = "Gate: checks sizes, balance and distortion of the clusters, and churn of their labels."
        gate_clusters = steps.spark("gate_clusters", doc, job="gate", choice="clusters", reads=[a.CODEBOOKS, a.CLUSTERS])

    with TaskGroup("training", tooltip="Challenger and baseline, judged on the same hold-out"):
        doc = "Writes one chronological sequence per user, with the bounds of its splits."
        build_training_set = steps.spark("build_training_set", doc, reads=[a.INTERACTIONS], writes=[a.SEQUENCES], hours=2)
        doc = "Gate: checks that sequences are in order, training has nothing of the hold-out, and each split is large enough."
        gate_training_set = steps.spark("gate_training_set", doc, job="gate", choice="training_set", reads=[a.SEQUENCES])
        doc = "Trains the same towers with uniform negatives, for comparison. It needs no clusters."
        read = [a.ITEMS, *a.FEATURES, a.SEQUENCES]
        baseline = steps.python(
            "train_baseline", doc, job="train", choice="baseline", reads=read, writes=[a.BASELINE], hours=8, pool=GPU_POOL
        )
        doc = "Trains the model that may become champion."
        read = [*read, a.CODEBOOKS, a.CLUSTER_INDEX]
        challenger = steps.python(
            "train_challenger", doc, job="train", choice="challenger", reads=read, writes=[a.CHALLENGER], hours=8, pool=GPU_POOL
        )
        doc = "Measures Recall and NDCG of challenger, champion and baseline over the full catalogue, for the same users."
        read = [a.SEQUENCES, a.BASELINE, a.CHALLENGER]
        evaluate = steps.python("evaluate", doc, reads=read, writes=[a.EVALUATION], hours=2)
        doc = "Gate: checks that the metrics are present, finite and above their absolute floors."
        gate_model = steps.python("gate_model", doc, job="gate", choice="model", reads=[a.EVALUATION])

    with TaskGroup("registry", tooltip="Version, verdict, review, promotion, candidates, report"):
        doc = "Registers the challenger with its serving bundle, lineage and model card; it is not champion yet."
        register = steps.python("register", doc, reads=[a.CHALLENGER, a.EVALUATION], writes=[a.MODEL_VERSION])
        doc = "Compares challenger and champion on the same hold-out, and signs the gate report; no alias moves."
        judge = steps.python("judge", doc, reads=[a.MODEL_VERSION, a.EVALUATION])
        review = steps.review("Waits for a person to approve or reject the version; skipped if the verdict needs no review.")
        doc = "Moves the alias `champion` if the verdict, and the review if there was one, allow it."
        promote = steps.python(
            "promote", doc, reads=[a.MODEL_VERSION], writes=[a.CHAMPION], trigger_rule=TriggerRule.NONE_FAILED
        )
        doc = "Lists the best unseen items of every user, by the champion of the date; writes nothing if there is none."
        read = [a.SEQUENCES, a.USERS, a.ITEMS, a.STOCK, a.VISUAL, a.TEXT, a.CHAMPION]
        candidates = steps.spark("candidates", doc, reads=read, writes=[a.CANDIDATES], hours=8)
        report = steps.python("report", "Writes the page and the summary of the run.", reads=[a.EVALUATION], writes=[a.REPORT])

    # Steps that do not need each other run side by side: the training set and the features, the baseline and the clusters.
    chain(gate_raw, ingest, views)
    chain(gate_features, fit_codebooks, assign_clusters, gate_clusters)
    chain(ingest, build_training_set, gate_training_set, [baseline, challenger])
    chain(gate_features, baseline)
    chain(gate_clusters, challenger)
    chain([baseline, challenger], evaluate, gate_model, register, judge, review, promote, candidates, report)

    baseline.operator_extra_links = (links.BASELINE_RUN,)
    challenger.operator_extra_links = evaluate.operator_extra_links = (links.RUN,)
    for task in (register, judge, review, promote, report):
        task.operator_extra_links = (links.RUN, links.VERSION, links.GATE_REPORT, links.DATA_DOCS, links.REPORT)
