"""Settings of how steps run; none of these changes a result."""

from typing import Literal

from pydantic import Field

from jobs.base.sections.section import Section


class SparkSettings(Section):
    """The Spark session of every Spark job."""

    master: str = Field("local[*]", description="Spark master URL.")
    driver_memory: str = Field("2g", pattern=r"^\d+[mg]$", description="Memory of the driver JVM.")
    shuffle_partitions: int = Field(4, ge=1, description="Partitions of a shuffle.")
    executor_memory: str = Field(
        "", pattern=r"^(\d+[mg])?$", description="Heap of an executor on a cluster; empty: as the cluster's configuration says."
    )
    executor_cores: int = Field(
        0, ge=0, description="Tasks an executor runs at once on a cluster; 0: as the cluster's configuration says."
    )
    driver_host: str = Field(
        "127.0.0.1",
        pattern=r"^[A-Za-z0-9.:-]*$",
        description="Address of this machine by which executors reach the driver, and on which alone it listens; empty leaves "
        "both to Spark, as in cluster deploy mode.",
    )


class RunSettings(Section):
    """How the steps of a run go about their work; none of this changes a result."""

    reuse: bool = Field(True, description="Skip a step whose inputs, settings and code are those of its last success.")
    checkpoint_minutes: float = Field(
        10, ge=0, description="Training also saves its state after so many minutes within an epoch; 0 after every step."
    )
    records: Literal["runs", "feature_runs"] = Field(
        "runs",
        description="Folder of the home for settings, records and verdicts; a backfill of features keeps its own, so that it "
        "never replaces what a date's retraining left.",
    )
