"""Settings of the gates, of promotion, and of the registry that knows the champion."""

from typing import Literal

from pydantic import Field

from jobs.base.sections.section import Section


class GateSettings(Section):
    """When a challenger replaces the champion, and when a gate stops the run."""

    bootstrap_samples: int = Field(2000, ge=100, description="Resamples of the paired bootstrap over hold-out users.")
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Level of the intervals that are shown. 1 minus this bounds how often a model that really loses more than "
        "the margin is promoted, with all looks counted.",
    )
    max_relative_loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Margin: the share of the champion's Recall@k that a challenger may lose. A larger loss must be ruled out, "
        "also against the best version that was ever in force.",
    )
    allow_below_baseline: bool = Field(
        False, description="Promote a challenger even if its recall is shown to be below the uniform-negatives baseline's."
    )
    min_recall: float = Field(
        0.02, ge=0, le=1, description="Absolute floor of Recall@k. k is 50, or a tenth of the catalogue if that is less."
    )
    min_head_recall: float = Field(0.005, ge=0, le=1, description="Absolute floor of Recall@k on head items.")
    min_tail_recall: float = Field(0.0, ge=0, le=1, description="Absolute floor of Recall@k on tail items.")
    min_coverage: float = Field(0.05, ge=0, le=1, description="Least share of the catalogue that is in some user's top k.")
    max_cluster_share: float = Field(0.3, gt=0, le=1, description="Largest share of items that one primary cluster may hold.")
    max_label_churn: float = Field(
        0.5, ge=0, le=1, description="Stop if more unchanged items change their primary cluster; warn if a refit was asked for."
    )
    max_empty_codes: float = Field(0.25, ge=0, le=1, description="Warn if a larger share of the primary codes holds no item.")
    max_distortion_growth: float = Field(
        0.25,
        ge=0,
        description="Warn if the mean squared distance of items to their codes grows by a larger share than this.",
    )
    min_evaluated_users: int = Field(
        20, ge=1, description="Fewest hold-out users with a history that a model is judged on; also fewest users of a log."
    )
    min_view_coverage: float = Field(0.5, ge=0, le=1, description="For each view: warn if a smaller share of items has it.")
    min_volume_share: float = Field(
        0.3, ge=0, le=1, description="Warn if the day has fewer events than this share of the mean of the 7 days before."
    )
    max_unclustered: float = Field(0.2, ge=0, le=1, description="Largest share of items without any view, and so no cluster.")
    min_embedding_spread: float = Field(
        0.1, ge=0, le=1, description="Smallest spread of the item embeddings. 1: evenly over the sphere; 0: all in one point."
    )


class RegistrySettings(Section):
    """MLflow tracking and the model registry."""

    tracking_uri: str = Field("", description="MLflow tracking URI. If empty: a SQLite file in the home folder.")
    experiment: str = Field("esans-daily-retraining", description="Name of the MLflow experiment.")
    model_name: str = Field("esans-retrieval", pattern=r"^[A-Za-z0-9_.-]+$", description="Name of the registered model.")
    promotion: Literal["auto", "review", "never"] = Field(
        "auto",
        description="auto: what passes becomes champion; review: a person must approve it first; never: it is only registered.",
    )
    review_hours: float = Field(
        24, gt=0, le=168, description="Hours that a review waits for an answer. If none comes, that is a rejection."
    )
