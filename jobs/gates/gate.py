"""Runs a data-quality gate: it judges one stage's tables, writes the result, and stops the run on a critical failure."""

import importlib
import logging
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd

from jobs.base.errors import DataError, GateFailed
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings

log = logging.getLogger(__name__)


def run(settings: PipelineSettings, stage: str) -> dict[str, Any]:
    """Judge a stage and write `<run_dir>/gates/<stage>.json`.

    Args:
        settings: bounds, date and home folder.
        stage: one of `STAGES`; `model` needs no Spark.

    Raises:
        GateFailed: an expectation of severity critical does not hold, could not be evaluated, or has no table; or the
            table changed meanwhile.
    """
    from jobs.gates.checkpoint import unavailable  # Great Expectations takes seconds to import

    suites_of = importlib.import_module(f"jobs.gates.{stage}")
    path = verdict_path(settings, stage)
    path.unlink(missing_ok=True)  # a gate that is stopped half-way must not leave the verdict of an earlier run
    with _engine(settings, stage) as spark:
        try:
            result = _judged(suites_of, settings, stage, spark)
        except DataError as error:
            table = str(error.file or stage)
            write_json(path, unavailable(stage, error.problem, error.remedy, table, error.column).as_json())
            raise GateFailed(
                error.problem, remedy=error.remedy, file=error.file, column=error.column, rows=error.rows
            ) from error
    write_json(path, result.as_json())
    for failure in result.failures:
        log.warning("%s: %s", failure.severity, failure.message)
    critical = [failure for failure in result.failures if failure.severity == "critical"]
    if critical:
        first, others = critical[0], len(critical) - 1
        further = "1 more critical failure" if others == 1 else f"{others} more critical failures"
        raise GateFailed(
            first.message + (f" (and {further}, see {path})." if others else "."),
            remedy=first.remedy,
            file=f"gate {stage}, table {first.table}",
            column=first.column,
        )
    return {"checked": result.checked, "warnings": len(result.failures), "data_docs": result.data_docs}


def _judged(suites_of: Any, settings: PipelineSettings, stage: str, spark: Any) -> Any:
    """The `GateResult` of a stage."""
    from jobs.gates.checkpoint import run_checkpoint

    judged = suites_of.tables(settings, spark)
    large = {name: frame for name, frame in judged.frames.items() if not isinstance(frame, pd.DataFrame)}
    for name in large.keys() - judged.read_again:
        large[name].persist()
    try:
        return run_checkpoint(settings, stage, suites_of.suites(settings), judged)
    finally:
        for frame in large.values():
            frame.unpersist()


def verdict_path(settings: PipelineSettings, stage: str) -> Path:
    """The file with the verdict on a stage."""
    return settings.run_dir / "gates" / f"{stage}.json"


def _engine(settings: PipelineSettings, stage: str) -> Any:
    if stage == "model":
        return nullcontext()
    from jobs.base.spark import spark_session

    return spark_session(settings, f"gate_{stage}")
