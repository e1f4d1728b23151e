"""Registers the day's challenger in the form that production serves, with its lineage and model card. It is no champion yet."""

import json
import logging
import os
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion

from jobs.base.cutoffs import Cutoffs
from jobs.base.places import copy_files
from jobs.base.scratch import scratch_in
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import start_or_resume_run
from jobs.lake.tables import Lake
from jobs.registry.card import model_card
from jobs.registry.comparison import gate_outcomes, read_metrics
from jobs.registry.intervals import metric_intervals
from jobs.registry.versions import MODEL_DIGEST, VALIDATION_STATUS, find_version, register_version
from jobs.serving.bundle import build_bundle
from jobs.serving.verified import BUNDLE_DIGEST

log = logging.getLogger(__name__)


def register_challenger(settings: PipelineSettings) -> tuple[ModelVersion, bool, str]:
    """Register the challenger of the date once, with all that the lake and the run folder hold about it.

    Returns:
        The version, whether it is new (a rerun finds the version it made), and the key of the challenger's training run.

    Raises:
        DataError: the challenger or its evaluation is missing, or they do not belong together.
    """
    lake = Lake.of(settings)
    metrics, gates = read_metrics(settings), gate_outcomes(settings)
    manifests = {name: lake.manifest(name, settings.date) for name in ("items", "interactions", "challenger")}
    challenger = manifests["challenger"]
    run_key = challenger["stats"]["run_key"]
    found = find_version(settings, run_key)
    if found is not None:
        log.info("run %s is version %s already", run_key, found.version)
        return found, False, run_key
    card = model_card(settings, metrics, metric_intervals(settings, Cutoffs.of(metrics)), manifests, gates)
    tags = {
        "esans.git_sha": challenger["git_sha"],
        "esans.config_hash": challenger["config_hash"],
        "esans.data_digests": json.dumps(manifests["items"]["inputs"] | challenger["inputs"], sort_keys=True),
        MODEL_DIGEST: challenger["digest"],
        "esans.dag_run_id": os.environ.get("AIRFLOW_CTX_DAG_RUN_ID", ""),
        VALIDATION_STATUS: "pending",
    } | {f"esans.gate.{stage}": _outcome(record) for stage, record in gates.items()}
    with (
        scratch_in(settings.home) as scratch,
        start_or_resume_run(settings, run_key, f"challenger-{settings.ds}"),
    ):
        bundle, trained = scratch / "bundle", scratch / "model"
        content = build_bundle(settings, bundle)
        tags[BUNDLE_DIGEST] = content["digest"]
        copy_files(lake.path("challenger", settings.date), trained)
        (trained / "MODEL_CARD.md").write_text(card)
        version, new = register_version(settings, bundle, trained, run_key=run_key, tags=tags, description=card)
        measured = {f"serving_{name}": float(value) for name, value in content["measured"].items()}
        mlflow.log_metrics(measured, model_id=version.model_id)
    log.info("registered version %s of %s", version.version, version.name)
    return version, new, run_key


def _outcome(record: dict[str, Any] | None) -> str:
    return "not_run" if record is None else record["worst"] or "passed"
