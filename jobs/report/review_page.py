"""The page on which a person approves or rejects a version: Markdown, shown by Airflow's review step."""

import json
from collections.abc import Mapping
from typing import Any

from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.files import write_text
from jobs.base.settings import PipelineSettings
from jobs.pages.templates import markdown
from jobs.registry import mlflow_pages as pages
from jobs.registry.card import quality
from jobs.registry.comparison import gate_outcomes, read_metrics
from jobs.registry.intervals import metric_intervals
from jobs.registry.promotion import Difference
from jobs.report.history import publish_history

_MOST_WARNINGS = 5


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Write `<run_dir>/review.md` from the verdict, the metrics and the gates of the date, and renew the start page.

    Raises:
        DataError: the date has no verdict, or its metrics are about another challenger.
    """
    path = settings.run_dir / "verdict.json"
    if not path.exists():
        raise DataError("there is no verdict for this date.", file=path, remedy="run judge for this date first.")
    verdict, metrics = json.loads(path.read_text()), read_metrics(settings)
    intervals = metric_intervals(settings, Cutoffs.of(metrics))
    write_text(settings.run_dir / "review.md", page(settings, verdict, metrics, intervals))
    publish_history(settings)  # the start page says that a version waits
    return {"version": verdict["version"]}


def page(
    settings: PipelineSettings,
    verdict: Mapping[str, Any],
    metrics: Mapping[str, Any],
    intervals: Mapping[str, Mapping[str, Difference]],
) -> str:
    """The page's Markdown.

    Args:
        settings: of the run.
        verdict: content of verdict.json.
        metrics: content of metrics.json.
        intervals: challenger minus each opponent, by opponent and metric.
    """
    return markdown("review.md").render(
        settings=settings,
        verdict=verdict,
        links=_links(settings),
        table=quality(metrics, intervals),
        gates=gate_outcomes(settings),
        most=_MOST_WARNINGS,
    )


def _links(settings: PipelineSettings) -> dict[str, str]:
    """The version's pages in MLflow that there are."""
    wanted = {"Model version": pages.VERSION, "MLflow run": pages.RUN, "Gate report": pages.GATE_REPORT, "Plots": pages.REVIEW}
    found = {name: pages.mlflow_page(settings.run_dir, pattern) for name, pattern in wanted.items()}
    return {name: address for name, address in found.items() if address}
