"""Settings of a search for better settings."""

from pydantic import Field

from jobs.base.sections.section import Section


class TuningSettings(Section):
    """The search for better settings of a data set (`jobs.tuning`). A daily run reads none of this."""

    minutes: float = Field(
        60,
        gt=0,
        le=1440,
        description="Minutes that a search may take. After them no trial starts, and the one that runs stops after its epoch; "
        "the next search of the same date goes on there.",
    )
    trials: int = Field(100, ge=1, le=10_000, description="Most trials of a search, all its calls together.")
    max_cost: float = Field(
        4,
        ge=1,
        le=1000,
        description="How many times as long as with today's settings a training may take. A trial that would take longer is "
        "given up after its first epoch.",
    )
    keep: str = Field(
        "",
        pattern=r"^[a-z_., ]*$",
        description="Settings that the search leaves as they are, with commas between: training.embedding_dim, training.order.",
    )
    seed: int = Field(0, ge=0, description="Seed of the search. Every trial trains with training.seed.")
