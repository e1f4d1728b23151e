"""The decision of a person about a version. It is signed and kept beside the version's gate report."""

import datetime as dt
from typing import Any, Literal

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict, model_validator

from jobs.base.settings import PipelineSettings
from jobs.registry.signing import seal, unseal
from jobs.registry.version_records import read_record, said, write_record

KIND = "review"


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
