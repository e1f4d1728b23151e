"""The page on which a person approves or rejects a version: Markdown, shown by Airflow's review step."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.files import write_text
from jobs.base.settings import PipelineSettings
from jobs.registry import mlflow_pages as pages
from jobs.registry.card import quality
from jobs.registry.comparison import gate_outcomes, read_metrics
from jobs.registry.intervals import metric_intervals
from jobs.registry.promotion import Difference

_MOST_WARNINGS = 5


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Write `<run_dir>/review.md` from the verdict, the metrics and the gates of the date.

    Raises:
        DataError: the date has no verdict, or its metrics are about another challenger.
    """
    path = settings.run_dir / "verdict.json"
    if not path.exists():
        raise DataError("there is no verdict for this date.", file=path, remedy="run judge for this date first.")
    verdict, metrics = json.loads(path.read_text()), read_metrics(settings)
    intervals = metric_intervals(settings, Cutoffs.of(metrics))
    write_text(settings.run_dir / "review.md", page(settings, verdict, metrics, intervals))
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
    hours = f"{settings.registry.review_hours:g}"
    champion = verdict.get("champion_version")
    return "\n".join(
        [
            f"Version **{verdict['version']}** of `{settings.registry.model_name}`, trained on data up to {settings.ds}, has "
            f"passed. **Approve** makes it champion{f' in place of version {champion}' if champion else ''}; **Reject** leaves "
            f"things as they are. No answer within {hours} hours rejects it.",
            "",
            *_links(settings),
            "### Why it passed",
            *(f"- {_plain(reason)}" for reason in verdict["reasons"]),
            "",
            "### Quality on the hold-out",
            quality(metrics, intervals),
            "",
            "### Conditions",
            *_checks(verdict),
            "",
            "### Gates",
            *_gates(gate_outcomes(settings)),
            "",
        ]
    )


def _links(settings: PipelineSettings) -> list[str]:
    wanted = {"Model version": pages.VERSION, "MLflow run": pages.RUN, "Gate report": pages.GATE_REPORT, "Plots": pages.REVIEW}
    found = {name: pages.mlflow_page(settings.run_dir, pattern) for name, pattern in wanted.items()}
    links = [f"[{name}]({address})" for name, address in found.items() if address]
    return [" · ".join(links), ""] if links else []


def _checks(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield "| condition | value | bound | |"
    yield "|---|---:|---:|---|"
    for check in verdict["checks"]:
        word = "met" if check["passed"] else "**not met**"
        yield f"| {_plain(check['name'])} | {_number(check['value'])} | {_number(check['bound'])} | {word} |"


def _gates(outcomes: Mapping[str, Mapping[str, Any] | None]) -> Iterator[str]:
    for stage, record in outcomes.items():
        if record is None:
            yield f"- **{stage}**: not run"
            continue
        word = "passed" if record["success"] else "**failed**"
        yield f"- **{stage}**: {word}; checks: {record['checked']}, warnings: {len(record['failures'])}"
        for failure in record["failures"][:_MOST_WARNINGS]:
            yield f"  - {failure['severity']}: {_plain(failure['message'])}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _plain(text: str) -> str:
    """A text that cannot end its line, its cell of a table, or be taken for Markdown."""
    return "".join(f"\\{sign}" if sign in r"\`*_[]<>|#" else sign for sign in " ".join(text.split()))
