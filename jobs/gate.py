"""The command that judges the tables of one stage. Its recipes say when a stage need not be judged again."""

from typing import Any

from jobs.base.files import file_digest
from jobs.base.forgotten import forgotten_digest
from jobs.base.settings import PipelineSettings
from jobs.gates.gate import run, verdict_path
from jobs.gates.stages import STAGES
from jobs.lake.views import FEATURE_TABLES
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job


def _source(settings: PipelineSettings) -> dict[str, str]:
    from jobs.source.tables import source_digests  # imports Spark, which not every gate needs

    return source_digests(settings) | forgotten_digest(settings)


def _metrics(settings: PipelineSettings) -> dict[str, str]:
    path = settings.run_dir / "metrics.json"
    return {"metrics.json": file_digest(path) if path.exists() else ""}


def _recipe(stage: str, *sections: str, **inputs: Any) -> Recipe:
    return Recipe(sections=("gate", *sections), leaves=lambda settings: (verdict_path(settings, stage),), **inputs)


RECIPES = {
    "raw": _recipe("raw", "clusters", "data", "pictures", further=_source),
    "features": _recipe("features", reads=("items", *FEATURE_TABLES)),
    "clusters": _recipe("clusters", "clusters", reads=("items", "clusters", "codebooks")),
    "training_set": _recipe("training_set", "ingest", reads=("sequences", "interactions", "items", "users")),
    "model": _recipe("model", "training", reads=("challenger", "baseline", "evaluation"), further=_metrics),
}

if __name__ == "__main__":
    run_job("gate", run, choice=("stage", STAGES), recipe=RECIPES)
