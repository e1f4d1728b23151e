"""The command that aligns the views and fits the cascaded codebooks."""

from jobs.clusters.fit_codebooks import run
from jobs.clusters.history import accepted_digests
from jobs.lake.views import FEATURE_TABLES
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job

if __name__ == "__main__":
    recipe = Recipe(
        sections=("clusters",),
        reads=("items", *FEATURE_TABLES),
        further=lambda settings: accepted_digests(settings, "codebooks"),
        writes=("codebooks",),
    )
    run_job("fit_codebooks", run, recipe=recipe)
