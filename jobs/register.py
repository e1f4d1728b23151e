"""Register the day's challenger: exported, with signature, lineage and model card; it is not champion yet."""

import json
import logging
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from jobs.errors import DataError
from jobs.lake import Lake
from jobs.places import files_below, local_copy
from jobs.registry.card import model_card
from jobs.registry.comparison import gate_outcomes, read_metrics
from jobs.registry.intervals import metric_intervals
from jobs.registry.review import log_review
from jobs.registry.tracking import start_or_resume_run
from jobs.registry.versions import find_version, register_version
from jobs.runtime import run_job
from jobs.settings import PipelineSettings

log = logging.getLogger(__name__)

VALIDATION_STATUS = "validation_status"


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Register the challenger of the date, once; a rerun finds the version it made.

    Raises:
        DataError: the challenger or its evaluation is missing, or they do not belong together.
    """
    from esans_core.serving import RetrievalModule
    from jobs.model_store import load_towers

    lake = Lake.of(settings)
    folder = lake.path("challenger", settings.date)
    towers, meta, _ = load_towers(folder)
    example = example_histories(lake, settings, meta["max_history"])
    return register_challenger(settings, RetrievalModule(towers), example)


def register_challenger(settings: PipelineSettings, module: nn.Module, example: np.ndarray) -> dict[str, Any]:
    """Register a module as the challenger of the date, with all that the lake and the run folder know about it.

    Args:
        settings: of the run.
        module: int64 [B, L] histories -> int64 [B, k] item rows.
        example: int64 [B, L], B of at least 2.
    """
    lake = Lake.of(settings)
    metrics, gates = read_metrics(settings), gate_outcomes(settings)
    manifests = {name: lake.manifest(name, settings.date) for name in ("items", "interactions", "challenger")}
    challenger = manifests["challenger"]
    run_key = challenger["stats"]["run_key"]
    found = find_version(settings, run_key)
    if found is not None:
        log.info("run %s is version %s already", run_key, found.version)
        if found.run_id:  # an earlier attempt may not have come to it
            log_review(settings, found.run_id, found)
        return {"version": str(found.version), "new": False, "run_key": run_key}
    card = model_card(settings, metrics, metric_intervals(settings), manifests, gates)
    tags = {
        "esans.git_sha": challenger["git_sha"],
        "esans.config_hash": challenger["config_hash"],
        "esans.data_digests": json.dumps(manifests["items"]["inputs"] | challenger["inputs"], sort_keys=True),
        "esans.model_digest": challenger["digest"],
        "esans.dag_run_id": os.environ.get("AIRFLOW_CTX_DAG_RUN_ID", ""),
        VALIDATION_STATUS: "pending",
    } | {f"esans.gate.{stage}": _outcome(record) for stage, record in gates.items()}
    with TemporaryDirectory() as scratch, start_or_resume_run(settings, run_key, f"challenger-{settings.ds}") as tracked:
        page, files = Path(scratch) / "MODEL_CARD.md", _files(settings, Path(scratch))
        page.write_text(card)
        version, new = register_version(settings, module, example, [*files, page], run_key=run_key, tags=tags, description=card)
    log_review(settings, tracked.info.run_id, version)
    log.info("registered version %s of %s", version.version, version.name)
    return {"version": str(version.version), "new": new, "run_key": run_key}


def example_histories(lake: Lake, settings: PipelineSettings, length: int) -> np.ndarray:
    """int64 [2, length]: the latest training items of two users, aligned right, padded with -1."""
    table = lake.read_pandas("sequences", settings.date, ["item_index", "num_train"])
    histories = table[table["num_train"] > 0].head(2)
    if histories.empty:
        raise DataError(
            "holds no training event.",
            file=lake.path("sequences", settings.date),
            remedy="run ingest and build_training_set again for this date.",
        )
    example = np.full((2, length), -1, dtype=np.int64)
    for row, (items, count) in enumerate(zip(histories["item_index"], histories["num_train"], strict=True)):
        latest = np.asarray(items)[:count][-length:]
        example[row, length - len(latest) :] = latest
    return example


def _files(settings: PipelineSettings, scratch: Path) -> list[Path]:
    """The files of the model and its codebooks on this machine, from a lake elsewhere as copies in `scratch`."""
    lake = Lake.of(settings)
    folders = [lake.path(name, settings.date) for name in ("challenger", "codebooks")]
    return sorted(local_copy(path, scratch) for folder in folders for path in files_below(folder))


def _outcome(record: dict[str, Any] | None) -> str:
    return "not_run" if record is None else record["worst"] or "passed"


if __name__ == "__main__":
    run_job("register", run)
