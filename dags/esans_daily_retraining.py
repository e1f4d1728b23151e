"""The daily retraining of the retrieval model: one DAG run per logical date, wired here and done in `jobs/`."""

import functools
import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, TaskGroup, chain

from dags import assets as a
from dags.operators import HOME, RETRY_DEFAULTS, PrepareOperator, PythonJobOperator, SparkJobOperator, step
from dags.params import dag_params

DOC = """
### Daily retraining with semantic-aware negatives (ESANS, WWW 2025)

One run takes the catalogue and the log up to its **logical date**, rebuilds features and clusters, trains a challenger
and a uniform-negatives baseline, and moves the registry alias `champion` only when the challenger passes the gate.

* A **gate** that finds a critical failure stops the run there; the champion stays. Warnings go on the report.
* Bad data is never retried; any other failure is, twice, with back-off.
* Running a date again writes the same bytes again: tables are named by their digest.
* The form's settings are those of `jobs/settings.py`; all of them also work as flags of each job by hand.
"""

schedule = os.environ.get("ESANS_SCHEDULE", "@daily")
spark = functools.partial(step, SparkJobOperator)
python = functools.partial(step, PythonJobOperator)

with DAG(
    dag_id="esans_daily_retraining",
    description="Ingest, cluster, train, evaluate and promote the retrieval model of one logical date.",
    doc_md=DOC,
    # A data interval, so that the run of date D starts when D is over and {{ ds }} is the last day of events used.
    schedule=CronDataIntervalTimetable(schedule, "UTC") if schedule else None,
    start_date=datetime(1990, 1, 1, tzinfo=UTC),  # a run of any earlier date would never start; public logs begin in 1995
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=24),
    params=dag_params(),
    default_args={"owner": "retrieval", "execution_timeout": timedelta(minutes=30)} | RETRY_DEFAULTS,
    tags=["esans", "retrieval", "training"],
) as dag:
    with TaskGroup("prepare", tooltip="Settings frozen, source found and checked"):
        prepare = PrepareOperator(
            task_id="prepare",
            job="prepare",
            arguments=["--date={{ ds }}", f"--home={HOME}"],
            outlets=[a.SOURCE],
            doc_md="Checks and freezes the run's settings; draws the embedded shop's snapshot where that is the source.",
        )
        gate_raw = spark("gate_raw", "Gate: the source keeps the data contract.", job="gate", choice="raw", reads=[a.SOURCE])

    with TaskGroup("ingest", tooltip="Clean tables of this date"):
        made = [a.ITEMS, a.USERS, a.INTERACTIONS, a.QUARANTINE]
        doc = "Cleans the log, splits it by time, counts popularity, and lists every row it sets aside."
        ingest = spark("ingest", doc, reads=[a.SOURCE], writes=made, hours=2)

    with TaskGroup("features", tooltip="Three views of each item"):
        visual = spark("visual_features", "Vectors of new or changed images.", reads=[a.ITEMS], writes=[a.VISUAL], hours=3)
        text = spark("text_features", "Vectors of new or changed texts.", reads=[a.ITEMS], writes=[a.TEXT], hours=3)
        doc = "Item vectors learnt from the users' sequences."
        behaviour = spark("behaviour_features", doc, reads=[a.INTERACTIONS], writes=[a.BEHAVIOUR], hours=3)
        doc = "Gate: one finite vector per item and view, and enough items with each view."
        gate_features = spark("gate_features", doc, job="gate", choice="features", reads=a.FEATURES)

    with TaskGroup("clusters", tooltip="Multimodal semantic-aware clustering"):
        doc = "Aligns the views and fits the cascaded codebooks, warm from the previous date."
        fit_codebooks = python("fit_codebooks", doc, reads=[a.ITEMS, *a.FEATURES], writes=[a.CODEBOOKS], hours=2)
        doc = "Gives each item its primary and secondary cluster, against broadcast codebooks."
        made = [a.CLUSTERS, a.CLUSTER_INDEX]
        assign_clusters = spark("assign_clusters", doc, reads=[*a.FEATURES, a.CODEBOOKS], writes=made, hours=2)
        doc = "Gate: sizes, balance and distortion of the clusters, churn of their labels."
        gate_clusters = spark("gate_clusters", doc, job="gate", choice="clusters", reads=[a.CODEBOOKS, a.CLUSTERS])

    with TaskGroup("training", tooltip="Challenger and baseline, judged on the same hold-out"):
        doc = "One chronological sequence per user, with the bounds of its splits."
        build_training_set = spark("build_training_set", doc, reads=[a.INTERACTIONS], writes=[a.SEQUENCES], hours=2)
        doc = "Gate: sequences in order, nothing of the hold-out in training, enough of each split."
        gate_training_set = spark("gate_training_set", doc, job="gate", choice="training_set", reads=[a.SEQUENCES])
        read = [a.ITEMS, *a.FEATURES, a.SEQUENCES]
        doc = "The same towers with uniform negatives, to compare with; it needs no clusters."
        baseline = python("train_baseline", doc, job="train", choice="baseline", reads=read, writes=[a.BASELINE], hours=8)
        doc = "The model that may become champion."
        read = [*read, a.CODEBOOKS, a.CLUSTER_INDEX]
        challenger = python(
            "train_challenger", doc, job="train", choice="challenger", reads=read, writes=[a.CHALLENGER], hours=8
        )
        doc = "Recall and NDCG of challenger, champion and baseline over the full catalogue, for the same users."
        evaluate = python("evaluate", doc, reads=[a.SEQUENCES, a.BASELINE, a.CHALLENGER], writes=[a.EVALUATION], hours=2)
        doc = "Gate: metrics present, finite and above their absolute floors."
        gate_model = python("gate_model", doc, job="gate", choice="model", reads=[a.EVALUATION])

    with TaskGroup("registry", tooltip="Version, verdict, candidates, report"):
        doc = "Registers the challenger with signature, lineage and model card; it is not champion yet."
        register = python("register", doc, reads=[a.CHALLENGER, a.EVALUATION], writes=[a.MODEL_VERSION])
        doc = "Compares challenger and champion on the same hold-out and moves the alias `champion` on a pass."
        promote = python("promote", doc, reads=[a.MODEL_VERSION, a.EVALUATION], writes=[a.CHAMPION])
        doc = "The best unseen items of every user, from the champion of the date; nothing where there is none."
        read = [a.SEQUENCES, a.USERS, a.ITEMS, a.VISUAL, a.TEXT, a.CHAMPION]
        candidates = spark("candidates", doc, reads=read, writes=[a.CANDIDATES], hours=8)
        report = python("report", "Writes the page and the summary of the run.", reads=[a.EVALUATION], writes=[a.REPORT])

    # What does not need each other runs side by side: the training set beside the features, the baseline beside the clusters.
    chain(prepare, gate_raw, ingest, [visual, text, behaviour], gate_features, fit_codebooks, assign_clusters, gate_clusters)
    chain(ingest, build_training_set, gate_training_set, [baseline, challenger])
    chain(gate_features, baseline)
    chain(gate_clusters, challenger)
    chain([baseline, challenger], evaluate, gate_model, register, promote, candidates, report)
