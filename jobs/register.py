"""The command that registers the day's challenger, with a page for its reviewer."""

from typing import Any

from jobs.base.settings import PipelineSettings
from jobs.registry.register import register_challenger
from jobs.report.review import log_review
from jobs.step.runtime import run_job


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Register the challenger of the date, and put what a reviewer needs on the version's page in MLflow.

    Raises:
        DataError: the challenger or its evaluation is missing, or they do not belong together.
    """
    version, new, run_key = register_challenger(settings)
    if version.run_id:  # also for a version that was there: an earlier attempt may have stopped before this
        log_review(settings, version.run_id, version)
    return {"version": str(version.version), "new": new, "run_key": run_key}


if __name__ == "__main__":
    run_job("register", run)
