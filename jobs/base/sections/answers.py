"""Settings of the candidates of every user, and of serving bundles."""

from typing import Literal

from pydantic import Field, model_validator

from jobs.base.sections.section import Section


class CandidateSettings(Section):
    """Candidates of every user from the model in force."""

    enabled: bool = Field(True, description="Write the table of candidates after promotion.")
    k: int = Field(100, ge=1, le=10_000, description="Number of unseen items written for each user.")
    index: Literal["auto", "exact", "ivf"] = Field(
        "auto",
        description="How items are searched. exact: compare every item; ivf: search the nearest lists of an inverted file; "
        "auto: exact up to exact_up_to items, ivf above.",
    )
    exact_up_to: int = Field(
        50_000, ge=1, description="Largest catalogue, in items, that 'auto' searches exactly (measured: docs/LOG.md)."
    )
    min_index_recall: float = Field(
        0.98, ge=0, le=1, description="Share of the exact top k that ivf must find, measured on a sample of users."
    )


class ServingSettings(Section):
    """The serving bundle that a version carries, and how many bundles are kept. Its index is set in the section candidates."""

    k: int = Field(100, ge=1, le=10_000, description="Number of items in an answer, unless the query says another.")
    max_k: int = Field(1000, ge=1, le=10_000, description="Largest number of items that a query may ask for.")
    keep: int = Field(10, ge=1, le=10_000, description="Number of newest bundles to keep, besides the one in force.")

    @model_validator(mode="after")
    def _ordered(self) -> "ServingSettings":
        if self.k > self.max_k:
            raise ValueError(f"k ({self.k}) must not exceed max_k ({self.max_k})")
        return self
