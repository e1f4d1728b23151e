"""What people decided about a model, kept by the digest of its weights: it holds for every version that has these weights.

A date that runs again with other settings may give the same weights another key, and so another version. Versions and their
tags can be deleted in MLflow. So the decision is kept in the home folder, in `decisions/<digest of the weights>.json`.
"""

from pathlib import Path
from typing import Literal

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict

from jobs.base.errors import DataError
from jobs.base.files import write_text
from jobs.base.settings import PipelineSettings
from jobs.registry.gate_report import read_gate_report

UNKNOWN = "unknown (moved in the registry)"  # who moved an alias in MLflow; a name and a reason are not asked for there


class Standing(BaseModel):
    """The last decision about a model.

    Attributes:
        decision: `withdrawn` (taken back from production), `rejected` (in a review), or `allowed` (approved or promoted since).
        by: who decided.
        at: when, in ISO 8601.
        reason: why.
        version: the version that it was about.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: Literal["withdrawn", "rejected", "allowed"]
    by: str
    at: str
    reason: str
    version: str

    def __str__(self) -> str:
        """The decision in a few words."""
        verb = {"withdrawn": "taken back", "rejected": "rejected", "allowed": "allowed"}[self.decision]
        return f"it was {verb} by {self.by} at {self.at} ({self.reason or 'no reason was given'}), as version {self.version}"


def decide(settings: PipelineSettings, weights: str, standing: Standing) -> None:
    """Keep a decision about the model with these weights; it replaces an earlier one. Unknown weights ("") keep nothing."""
    if weights:
        write_text(_path(settings, weights), standing.model_dump_json(indent=2) + "\n")


def held_back(settings: PipelineSettings, weights: str) -> Standing | None:
    """The decision of a person that keeps these weights out of production, or None."""
    path = _path(settings, weights)
    if not weights or not path.exists():
        return None
    found = Standing.model_validate_json(path.read_text())
    return None if found.decision == "allowed" else found


def weights_of(settings: PipelineSettings, version: ModelVersion) -> str:
    """Digest of a version's weights by its gate report; "" if it has no genuine report, or that of an earlier release."""
    try:
        return read_gate_report(settings, version).weights
    except DataError:
        return ""


def _path(settings: PipelineSettings, weights: str) -> Path:
    return settings.home / "decisions" / f"{weights}.json"
