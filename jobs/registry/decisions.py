"""What people decided: about a version, signed and kept beside its gate report; and about its weights, kept in the home.

A date that runs again with other settings may give the same weights another key, and so another version. Versions and their
tags can be deleted in MLflow. So what a person took back or rejected is kept in `decisions/<digest of the weights>.json` too,
and holds for every version that has these weights.
"""

import datetime as dt
from pathlib import Path
from typing import Any, Literal

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict, model_validator

from jobs.base.files import write_text
from jobs.base.settings import PipelineSettings
from jobs.registry.signing import seal, unseal
from jobs.registry.version_records import read_record, said, write_record

KIND = "review"
UNKNOWN = "unknown (moved in the registry)"  # who moved an alias in MLflow; a name and a reason are not asked for there


class Review(BaseModel):
    """A decision about a version, in the form in which the review step leaves it in `review.json`.

    Attributes:
        decision: what was decided.
        by: who decided; empty if nobody decided in time.
        at: when it was decided.
        reason: why.
        timed_out: whether nobody decided in time. The decision is then a rejection.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: Literal["approved", "rejected"]
    by: str
    at: dt.datetime
    reason: str
    timed_out: bool = False

    @model_validator(mode="after")
    def _somebody_approves(self) -> "Review":
        if self.decision == "approved" and (self.timed_out or not self.by.strip()):
            raise ValueError("an approval needs the name of the person who gave it")
        return self

    def __str__(self) -> str:
        """The decision in a few words."""
        if self.timed_out:
            return "nobody decided in time, so it is rejected"
        return f"{self.decision} by {self.by or 'nobody'}" + (f" ({self.reason})" if self.reason else "")


def sign_decision(settings: PipelineSettings, version: ModelVersion, subject: dict[str, Any], review: Review) -> None:
    """Sign and keep a decision about a model (`GateReport.subject`). It replaces an earlier decision."""
    content = {"subject": subject, "review": review.model_dump(mode="json")}
    write_record(settings, version, "decision", seal(settings, KIND, content))


def read_decision(settings: PipelineSettings, version: ModelVersion, subject: dict[str, Any]) -> Review | None:
    """The decision about exactly this model, or None.

    Raises:
        DataError: there is a decision, but it is not genuine.
    """
    text = read_record(settings, version, "decision")
    if text is None:
        return None
    remedy = "decide again: in the review step of its date, or by promoting it by hand with a reason."
    content = unseal(settings, KIND, text, where=said(version), remedy=remedy)
    return Review.model_validate(content["review"]) if content.get("subject") == subject else None


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


def _path(settings: PipelineSettings, weights: str) -> Path:
    return settings.home / "decisions" / f"{weights}.json"
