"""Settings of how steps run; none of these changes a result."""

from typing import Literal

from pydantic import Field

from jobs.base.sections.section import Section


class SparkSettings(Section):
    """The Spark session of every Spark job."""

    master: str = Field("local[*]", description="Spark master URL.")
    driver_memory: str = Field("2g", pattern=r"^\d+[mg]$", description="Memory of the driver JVM.")
    shuffle_partitions: int = Field(4, ge=1, description="Number of partitions of a shuffle.")
    executor_memory: str = Field(
        "",
        pattern=r"^(\d+[mg])?$",
        description="Heap of an executor on a cluster. If empty, the cluster's configuration decides.",
    )
    executor_cores: int = Field(
        0, ge=0, description="Tasks that an executor on a cluster runs at once. If 0, the cluster's configuration decides."
    )
    driver_host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9.:-]*$",
        description="Address of this machine by which executors reach the driver; it listens on no other. If empty, Spark "
        "chooses both, as cluster deploy mode needs.",
    )


class RunSettings(Section):
    """How the steps of a run do their work. None of this changes a result."""

    reuse: bool = Field(True, description="Skip a step if its inputs, settings and code are the same as at its last success.")
    checkpoint_minutes: float = Field(
        10, ge=0, description="Minutes between two saves of the training state within an epoch; 0: after every step."
    )
    records: Literal["runs", "feature_runs", "tuning"] = Field(
        "runs",
        description="Folder in home for settings, records and verdicts. A backfill of features and a search for settings have "
        "their own, so that they never replace what a date's retraining left.",
    )
