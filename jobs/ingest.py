"""The command that turns the source into clean tables, with users and items numbered and events split in time."""

from jobs.base.forgotten import forgotten_digest
from jobs.source.ingest import run
from jobs.source.tables import source_digests
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job

if __name__ == "__main__":
    recipe = Recipe(
        sections=("clusters", "data", "ingest"),
        before=("interactions",),
        writes=("users", "items", "stock", "interactions", "quarantine"),
        further=lambda settings: source_digests(settings) | forgotten_digest(settings),
    )
    run_job("ingest", run, recipe=recipe)
