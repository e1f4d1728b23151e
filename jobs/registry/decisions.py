"""What a person decided about a version, signed and kept beside its gate report."""

import datetime as dt
from typing import Any, Literal

from mlflow.entities.model_registry import ModelVersion
from pydantic import BaseModel, ConfigDict, model_validator

from jobs.base.settings import PipelineSettings
from jobs.registry.signing import seal, unseal
from jobs.registry.version_records import read_record, said, write_record

_KIND = "review"


class Review(BaseModel):
    """A decision about a version, in the form in which the review step leaves it in `review.json`.

    Attributes:
        decision: what was decided.
        by: who did; empty where nobody did in time.
        at: when.
        reason: why.
        timed_out: nobody decided in time, which rejects.
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
            raise ValueError("an approval needs the name of who gave it")
        return self

    def __str__(self) -> str:
        """The decision in a few words."""
        if self.timed_out:
            return "nobody decided in time, which rejects"
        return f"{self.decision} by {self.by or 'nobody'}" + (f" ({self.reason})" if self.reason else "")


def sign_decision(settings: PipelineSettings, version: ModelVersion, subject: dict[str, Any], review: Review) -> None:
    """Keep a decision about a model (`GateReport.subject`); it takes the place of an earlier one."""
    content = {"subject": subject, "review": review.model_dump(mode="json")}
    write_record(settings, version, "decision", seal(settings, _KIND, content))


def read_decision(settings: PipelineSettings, version: ModelVersion, subject: dict[str, Any]) -> Review | None:
    """The decision about exactly this model, or None.

    Raises:
        DataError: there is one that is not genuine.
    """
    text = read_record(settings, version, "decision")
    if text is None:
        return None
    remedy = "decide again: in the review step of its date, or by promoting it by hand with a reason."
    content = unseal(settings, _KIND, text, where=said(version), remedy=remedy)
    return Review.model_validate(content["review"]) if content.get("subject") == subject else None
