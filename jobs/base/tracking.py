"""MLflow as this pipeline uses it: where runs go, and how a run is found again."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

# MLflow reads these when it is imported: no usage reports, no helper processes, and no pickle in any model it loads.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from mlflow import ActiveRun, MlflowClient
from mlflow.entities import ViewType

from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings
from jobs.base.writing import writing_to

log = logging.getLogger(__name__)

RUN_KEY = "esans.run_key"
LOGICAL_DATE = "esans.date"
# Without its kind, MLflow takes an experiment for one of generative AI, and shows traces and prompts instead of runs.
_KIND = {"mlflow.experimentKind": "custom_model_development"}
_current: tuple[str, str] | None = None  # store and experiment that this process has made current
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def client(settings: PipelineSettings) -> MlflowClient:
    """A client of the tracking store and registry in force. The experiment is made if it is missing, and made current.

    If the store is a database, artifacts go to `<home>/mlflow/artifacts`. A tracking server has a place of its own for them.
    """
    global _current
    uri, name = settings.tracking_uri, settings.registry.experiment
    # A server hashes a password for each question, which takes a quarter of a second and more: so ask once.
    if _current == (uri, name) and (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == (uri, uri):
        return MlflowClient()
    for chatty in ("alembic", "mlflow", "mlflow.store.db.utils", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    folder = settings.home / "mlflow"
    location = None
    if urlparse(uri).scheme.split("+")[0] in _DATABASES:
        (folder / "artifacts").mkdir(parents=True, exist_ok=True)
        location = (folder / "artifacts").as_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    with alone_in(folder):  # the first access to a new database makes its tables, and two at once fail
        found = MlflowClient()
        experiment = found.get_experiment_by_name(name)
        if experiment is None:
            found.create_experiment(name, artifact_location=location, tags=_KIND)
        elif not _KIND.keys() <= experiment.tags.keys():  # made by an earlier release
            for tag, kind in _KIND.items():
                found.set_experiment_tag(experiment.experiment_id, tag, kind)
    mlflow.set_experiment(name)
    _current = (uri, name)
    return found


@contextmanager
def start_or_resume_run(settings: PipelineSettings, run_key: str, name: str) -> Iterator[ActiveRun]:
    """Start the run of a key, or resume it, and make it current. If this process is killed, `end_dead_runs` ends the run.

    Args:
        settings: gives the store, the experiment and the logical date.
        run_key: stands for all that decides the run's result. A run of the same date that has it as its tag
            `esans.run_key` is resumed, so that a rerun adds to it and starts no other.
        name: name of a new run.
    """
    with writing_to(settings, run_key):
        run_id = _run_of(settings, run_key)
        tags = {RUN_KEY: run_key, LOGICAL_DATE: settings.ds}
        started = mlflow.start_run(run_id=run_id) if run_id else mlflow.start_run(run_name=name, tags=tags)
        with started as run:
            yield run


def end_run(settings: PipelineSettings, run_key: str) -> None:
    """End the run of a key and of the logical date as KILLED, if there is one and MLflow takes it for running."""
    run_id = _run_of(settings, run_key)
    if run_id and client(settings).get_run(run_id).info.status in ("RUNNING", "SCHEDULED"):
        client(settings).set_terminated(run_id, "KILLED")
        log.warning("MLflow run %s was still running, but its process is dead: it was ended", run_id)


def _run_of(settings: PipelineSettings, run_key: str) -> str | None:
    """Id of the first run of a key and of the logical date, or None."""
    found = client(settings)
    experiment = found.get_experiment_by_name(settings.registry.experiment)
    assert experiment is not None
    runs = found.search_runs(
        [experiment.experiment_id],
        f"tags.`{RUN_KEY}` = '{run_key}' AND tags.`{LOGICAL_DATE}` = '{settings.ds}'",
        ViewType.ACTIVE_ONLY,
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    return str(runs[0].info.run_id) if runs else None
