"""Settings of what may become champion, and of the registry that says which it is."""

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
        description="Level of the intervals shown; 1 minus it is the share of promotions that may in truth lose more than the "
        "margin, with all looks counted.",
    )
    max_relative_loss: float = Field(
        0.01,
        ge=0,
        le=1,
        description="Margin: the share of the champion's Recall@k that a challenger may lose. A larger loss must be ruled out, "
        "against the best version ever in force too.",
    )
    allow_below_baseline: bool = Field(
        False, description="Promote a challenger whose recall is shown to be below the uniform-negatives baseline's."
    )
    min_recall: float = Field(
        0.02, ge=0, le=1, description="Absolute floor of Recall@k; k is 50, and at most a tenth of the catalogue."
    )
    min_head_recall: float = Field(0.005, ge=0, le=1, description="Absolute floor of Recall@k on head items.")
    min_tail_recall: float = Field(0.0, ge=0, le=1, description="Absolute floor of Recall@k on tail items.")
    min_coverage: float = Field(0.05, ge=0, le=1, description="Least share of the catalogue in the users' top k.")
    max_cluster_share: float = Field(0.3, gt=0, le=1, description="Largest share of items one primary cluster may hold.")
    max_label_churn: float = Field(
        0.5, ge=0, le=1, description="Stop when more unchanged items change primary cluster; warn when a refit was asked for."
    )
    max_empty_codes: float = Field(0.25, ge=0, le=1, description="Warn when more primary codes, as a share, hold no item.")
    max_distortion_growth: float = Field(
        0.25,
        ge=0,
        description="Warn when the mean squared distance of items to their codes grows by a larger share.",
    )
    min_evaluated_users: int = Field(
        20, ge=1, description="Hold-out users with a history below which no model is judged; also the fewest users of a log."
    )
    min_view_coverage: float = Field(0.5, ge=0, le=1, description="Warn when fewer items have a picture, a text or events.")
    min_volume_share: float = Field(
        0.3, ge=0, le=1, description="Warn when the day has fewer events than this share of the mean of the 7 days before."
    )
    max_unclustered: float = Field(0.2, ge=0, le=1, description="Largest share of items without any view, so without cluster.")
    min_embedding_spread: float = Field(
        0.1, ge=0, le=1, description="Least spread of the item embeddings; 1 is even over the sphere, 0 one single point."
    )


class RegistrySettings(Section):
    """MLflow tracking and the model registry."""

    tracking_uri: str = Field("", description="MLflow tracking URI; empty: SQLite inside the home folder.")
    experiment: str = Field("esans-daily-retraining", description="MLflow experiment.")
    model_name: str = Field("esans-retrieval", pattern=r"^[A-Za-z0-9_.-]+$", description="Registered model.")
    promotion: Literal["auto", "review", "never"] = Field(
        "auto",
        description="auto: a pass moves the champion alias; review: a person approves it first; never: register only.",
    )
    review_hours: float = Field(
        24, gt=0, le=168, description="Hours that a review waits for an answer; no answer is a rejection."
    )
