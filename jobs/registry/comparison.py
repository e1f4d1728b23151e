"""Reads the day's evaluation for the model card and the verdict, and checks that it is about the models at hand."""

import json
from typing import Any

import numpy as np

from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.gates.stages import STAGES
from jobs.lake.tables import Lake
from jobs.registry.promotion import RelativeChange, relative_change


def read_metrics(settings: PipelineSettings) -> dict[str, Any]:
    """The content of metrics.json.

    Raises:
        DataError: there is none, or the evaluation is about another challenger than the one in the lake.
    """
    path, lake = settings.run_dir / "metrics.json", Lake.of(settings)
    if not path.exists():
        raise DataError("there are no metrics for this date.", file=path, remedy="run evaluate for this date first.")
    judged = lake.manifest("evaluation", settings.date)["inputs"].get("challenger")
    if judged != lake.manifest("challenger", settings.date)["digest"]:
        raise DataError(
            "the evaluation is about another challenger than the one trained last.",
            file=lake.path("evaluation", settings.date),
            remedy="run evaluate and gate model again for this date.",
        )
    return json.loads(path.read_text())


def recall_change(settings: PipelineSettings, cutoffs: Cutoffs, other: str, *, level: float) -> RelativeChange | None:
    """How the challenger's recall differs from that of another model in the table `evaluation`; None if that has no rows.

    Args:
        settings: settings of the run.
        cutoffs: depths of the evaluation.
        other: name of the model in the table.
        level: chance of error on either side of the interval.

    Raises:
        DataError: the two were not evaluated on the same users.
    """
    lake = Lake.of(settings)
    table = lake.read_pandas("evaluation", settings.date, ["model", "user_index", cutoffs.recall])
    recall = {
        name: table[table["model"] == name].set_index("user_index")[cutoffs.recall].sort_index()
        for name in ("challenger", other)
    }
    if recall[other].isna().all():
        return None
    if not recall["challenger"].index.equals(recall[other].index) or any(values.isna().any() for values in recall.values()):
        raise DataError(
            f"the challenger and the {other} were not evaluated on the same users.",
            file=lake.path("evaluation", settings.date),
            column="user_index",
            remedy="run evaluate again for this date.",
        )
    return relative_change(recall["challenger"].to_numpy(np.float64), recall[other].to_numpy(np.float64), level=level)


def gate_outcomes(settings: PipelineSettings) -> dict[str, dict[str, Any] | None]:
    """The record of each stage's gate; None if the gate was not run."""
    paths = {stage: settings.run_dir / "gates" / f"{stage}.json" for stage in STAGES}
    return {stage: json.loads(path.read_text()) if path.exists() else None for stage, path in paths.items()}


def gate_blockers(settings: PipelineSettings) -> list[str]:
    """Why the gates rule out a promotion: one was not run, found a critical failure, or judged other data than these."""
    lake, blockers = Lake.of(settings), []
    sources = lake.manifest("items", settings.date)["inputs"]
    for stage, record in gate_outcomes(settings).items():
        if record is None:
            blockers.append(f"gate {stage} has not been run")
        elif record["success"] is not True or not record["checked"]:
            found = [failure["message"] for failure in record["failures"] if failure["severity"] == "critical"]
            blockers.append(f"gate {stage} failed: {found[0] if found else 'nothing was checked'}")
        else:
            now = {
                name: sources.get(name) if name.startswith("source/") else lake.manifest(name, settings.date)["digest"]
                for name in record["digests"]
            }
            if changed := sorted(name for name, digest in record["digests"].items() if digest != now[name]):
                blockers.append(f"gate {stage} judged other data than those in use now ({', '.join(changed)})")
    return blockers
