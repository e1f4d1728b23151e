"""Numbers of the latest run for Prometheus: `<home>/metrics/esans.prom`, for node_exporter's textfile collector.

The file is made anew from the records of the run folders whenever a job ends, so it needs no memory of its own, and jobs that
end together leave the same file in whatever order they write it.
"""

import datetime as dt
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.lake import write_text
from jobs.locks import alone_in
from jobs.report.layout import VERDICTS
from jobs.settings import PipelineSettings

log = logging.getLogger(__name__)

_SEVERITY = {None: 0, "warning": 1, "critical": 2}
_TOP = (("recall", "recall_50", "50"), ("recall", "recall_200", "200"), ("ndcg", "ndcg_50", "50"))


@dataclass(frozen=True)
class Metric:
    """A gauge: its name, what it says, and a value for each set of labels."""

    name: str
    says: str
    samples: tuple[tuple[Mapping[str, str], float], ...]

    def text(self) -> str:
        """In Prometheus' text format; nothing where there is no sample."""
        if not self.samples:
            return ""
        lines = [f"# HELP {self.name} {self.says}", f"# TYPE {self.name} gauge"]
        for labels, value in self.samples:
            inside = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items())
            lines.append(f"{self.name}{f'{{{inside}}}' if inside else ''} {value:.10g}")
        return "\n".join(lines) + "\n"


def metrics_path(settings: PipelineSettings) -> Path:
    """Where the file lies."""
    return settings.home / "metrics" / "esans.prom"


def update_metrics(settings: PipelineSettings) -> None:
    """Write the file anew. That it cannot be written is said in the log and fails no job."""
    path = metrics_path(settings)
    try:
        with alone_in(path.parent):  # what is read under the lock holds the record of every job that had it before
            write_text(path, "".join(metric.text() for metric in collect(settings)))
    except (OSError, ValueError, LookupError) as error:
        log.warning("metrics are not up to date: %s could not be written (%s)", path, error)


def collect(settings: PipelineSettings) -> list[Metric]:
    """The metrics of the latest date that has a record, and of what is in force now."""
    runs = sorted((path for path in (settings.home / "runs").glob("????-??-??") if path.is_dir()), reverse=True)
    if not runs:
        return []
    run = runs[0]
    steps = {path.stem: _read(path) for path in sorted((run / "steps").glob("*.json"))}
    gates = {path.stem: _read(path) for path in sorted((run / "gates").glob("*.json"))}
    return [
        *_about_steps(run, runs, steps),
        *_about_rows((steps.get("ingest") or {}).get("summary") or {}),
        *_about_gates(gates),
        *_about_models(_read(run / "metrics.json")),
        *_about_promotion(_read(run / "verdict.json"), _read(settings.serving_root / "CURRENT")),
    ]


def _about_steps(run: Path, runs: Iterable[Path], steps: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    date = dt.datetime.combine(dt.date.fromisoformat(run.name), dt.time(), dt.UTC)
    yield _single("esans_run_date_timestamp_seconds", "Logical date of the latest run, at midnight UTC.", date.timestamp())
    finished = next(
        (path for folder in runs if _read(path := folder / "steps" / "report.json").get("state") == "success"), None
    )
    yield _single(
        "esans_run_last_success_timestamp_seconds",
        "When the latest date that came to its report did so.",
        finished.stat().st_mtime if finished else None,
    )
    yield _by("esans_step_duration_seconds", "Time a step took.", "step", steps, lambda record: record.get("seconds"))
    yield _by(
        "esans_step_peak_memory_bytes",
        "Largest resident memory of a step's processes.",
        "step",
        steps,
        lambda record: record.get("peak_memory_mb", 0) * 2**20,
    )
    yield _by("esans_step_success", "1 where the step succeeded.", "step", steps, lambda record: record["state"] == "success")


def _about_rows(ingest: Mapping[str, Any]) -> Iterator[Metric]:
    counts = {"items": ingest.get("items"), "users": ingest.get("users")}
    counts |= {f"{split}_events": count for split, count in (ingest.get("events") or {}).items()}
    yield _by("esans_ingested_rows", "Rows of the latest run's input that are used.", "kind", counts, float)
    rejected = {table: sum(reasons.values()) for table, reasons in (ingest.get("rejected") or {}).items()}
    yield _by("esans_rejected_rows", "Rows of the latest run's input that were set aside.", "table", rejected, float)


def _about_gates(gates: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    says = "Worst failure of a gate: 0 none, 1 warning, 2 critical."
    yield _by("esans_gate_severity", says, "stage", gates, lambda gate: _SEVERITY.get(gate.get("worst"), 2))
    yield _by("esans_gate_checks", "Expectations a gate judged.", "stage", gates, lambda gate: gate["checked"])
    yield _by("esans_gate_failures", "Expectations that did not hold.", "stage", gates, lambda gate: len(gate["failures"]))


def _about_models(metrics: Mapping[str, Any]) -> Iterator[Metric]:
    models = {**(metrics.get("models") or {}), "popularity": metrics.get("popularity")}
    for kind in ("recall", "ndcg"):
        samples = tuple(
            ({"model": name, "k": k}, float(value))
            for name, values in models.items()
            for of, key, k in _TOP
            if of == kind and values and (value := values.get(key)) is not None
        )
        yield Metric(f"esans_model_{kind}_ratio", f"Mean {kind} at k on the hold-out, over the full catalogue.", samples)
    yield _by(
        "esans_model_coverage_ratio",
        "Share of the catalogue in the users' top 50.",
        "model",
        models,
        lambda values: values.get("coverage_50") if values else None,
    )


def _about_promotion(verdict: Mapping[str, Any], serving: Mapping[str, Any]) -> Iterator[Metric]:
    if word := verdict.get("verdict"):
        words = {name: name == word for name in VERDICTS}
        yield _by("esans_promotion_verdict", "1 for the latest run's verdict, 0 for all others.", "verdict", words, float)
    champion = verdict.get("champion_version")
    yield _single("esans_champion_version", "Version with the alias champion after the latest run's verdict.", champion)
    yield _single("esans_serving_version", "Version of the serving bundle in force.", serving.get("version"))


def _single(name: str, says: str, value: Any) -> Metric:
    return Metric(name, says, () if value is None else (({}, float(value)),))


def _by(name: str, says: str, label: str, values: Mapping[str, Any], number: Any) -> Metric:
    found = {key: number(value) for key, value in values.items() if value is not None}
    return Metric(name, says, tuple(({label: key}, float(value)) for key, value in found.items() if value is not None))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
