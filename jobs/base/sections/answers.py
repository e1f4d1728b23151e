"""Settings of what a model answers: candidates of every user, and serving bundles."""

from typing import Literal

from pydantic import Field, model_validator

from jobs.base.sections.section import Section


class CandidateSettings(Section):
    """Candidates of every user from the model in force."""

    enabled: bool = Field(True, description="Write the table of candidates after promotion.")
    k: int = Field(100, ge=1, le=10_000, description="Unseen items for each user.")
    index: Literal["auto", "exact", "ivf"] = Field(
        "auto",
        description="exact: every item is compared; ivf: the nearest lists of items; auto: exact up to exact_up_to items.",
    )
    exact_up_to: int = Field(
        50_000, ge=1, description="Items up to which 'auto' searches exactly (measured choice: docs/LOG.md)."
    )
    min_index_recall: float = Field(
        0.98, ge=0, le=1, description="Share of the exact top k that ivf must find, measured on a sample of users."
    )


class ServingSettings(Section):
    """The serving bundle that a version carries, and how many of them are kept (index: section candidates)."""

    k: int = Field(100, ge=1, le=10_000, description="Items that a bundle answers with when it is not told how many.")
    max_k: int = Field(1000, ge=1, le=10_000, description="Most items that a bundle can be asked for.")
    keep: int = Field(10, ge=1, le=10_000, description="Newest published bundles that are kept, besides the one in force.")

    @model_validator(mode="after")
    def _ordered(self) -> "ServingSettings":
        if self.k > self.max_k:
            raise ValueError(f"k ({self.k}) must not exceed max_k ({self.max_k})")
        return self
