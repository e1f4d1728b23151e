"""The command that gives every item its clusters, and writes their index."""

from jobs.base.settings import PipelineSettings
from jobs.clusters.assign_clusters import CONTENT_TABLES, run
from jobs.clusters.history import accepted_digests
from jobs.lake.views import FEATURE_TABLES
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job


def _before(settings: PipelineSettings) -> dict[str, str]:
    return accepted_digests(settings, "clusters", *CONTENT_TABLES)


if __name__ == "__main__":
    recipe = Recipe(reads=(*FEATURE_TABLES, "codebooks"), further=_before, writes=("clusters", "cluster_index"))
    run_job("assign_clusters", run, recipe=recipe)
