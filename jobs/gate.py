"""A data-quality gate: judge one stage's tables, write the result, and stop the run on a critical failure."""

import importlib
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from jobs.errors import DataError, GateFailed
from jobs.gates.stages import STAGES
from jobs.lake import file_digest, write_json
from jobs.reuse import Recipe
from jobs.runtime import run_job
from jobs.settings import PipelineSettings
from jobs.views import FEATURE_TABLES

log = logging.getLogger(__name__)


def run(settings: PipelineSettings, stage: str) -> dict[str, Any]:
    """Judge a stage and write `<run_dir>/gates/<stage>.json`.

    Args:
        settings: bounds, date and home folder.
        stage: one of `STAGES`; `model` needs no Spark.

    Raises:
        GateFailed: an expectation of severity critical does not hold, could not be evaluated, or has no table.
    """
    from jobs.gates.checkpoint import run_checkpoint, unavailable  # Great Expectations takes seconds to import

    suites_of = importlib.import_module(f"jobs.gates.{stage}")
    path = verdict_path(settings, stage)
    path.unlink(missing_ok=True)  # a gate that is stopped half-way must not leave the verdict of an earlier run
    with _engine(settings, stage) as spark:
        try:
            judged = suites_of.tables(settings, spark)
        except DataError as error:
            table = str(error.file or stage)
            write_json(path, unavailable(stage, error.problem, error.remedy, table, error.column).as_json())
            raise GateFailed(
                error.problem, remedy=error.remedy, file=error.file, column=error.column, rows=error.rows
            ) from error
        if spark is not None:
            for frame in judged.frames.values():
                frame.persist()
        result = run_checkpoint(settings, stage, suites_of.suites(settings), judged)
        if spark is not None:
            for frame in judged.frames.values():
                frame.unpersist()
    write_json(path, result.as_json())
    for failure in result.failures:
        log.warning("%s: %s", failure.severity, failure.message)
    critical = [failure for failure in result.failures if failure.severity == "critical"]
    if critical:
        first, others = critical[0], len(critical) - 1
        raise GateFailed(
            first.message + (f" (and {others} more critical failures, see {path})." if others else "."),
            remedy=first.remedy,
            file=f"gate {stage}, table {first.table}",
            column=first.column,
        )
    return {"checked": result.checked, "warnings": len(result.failures), "data_docs": result.data_docs}


def verdict_path(settings: PipelineSettings, stage: str) -> Path:
    """Where the verdict on a stage lies."""
    return settings.run_dir / "gates" / f"{stage}.json"


def _engine(settings: PipelineSettings, stage: str) -> Any:
    if stage == "model":
        return nullcontext()
    from jobs.spark import spark_session

    return spark_session(settings, f"gate_{stage}")


def _source(settings: PipelineSettings) -> dict[str, str]:
    from jobs.source import source_digests  # with Spark, which not every gate needs

    return source_digests(settings)


def _metrics(settings: PipelineSettings) -> dict[str, str]:
    path = settings.run_dir / "metrics.json"
    return {"metrics.json": file_digest(path) if path.exists() else ""}


def _recipe(stage: str, *sections: str, **inputs: Any) -> Recipe:
    return Recipe(sections=("gate", *sections), leaves=lambda settings: (verdict_path(settings, stage),), **inputs)


RECIPES = {
    "raw": _recipe("raw", "clusters", "data", further=_source),
    "features": _recipe("features", reads=("items", *FEATURE_TABLES)),
    "clusters": _recipe("clusters", "clusters", reads=("items", "clusters", "codebooks")),
    "training_set": _recipe("training_set", "ingest", reads=("sequences", "interactions", "items")),
    "model": _recipe("model", "training", reads=("challenger", "baseline", "evaluation"), further=_metrics),
}


if __name__ == "__main__":
    run_job("gate", run, choice=("stage", STAGES), recipe=RECIPES)
