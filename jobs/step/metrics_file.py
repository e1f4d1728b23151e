"""The numbers of the latest run for Prometheus: `<home>/metrics/esans.prom`, for node_exporter's textfile collector.

The file is made anew from the records of the run folders whenever a job ends. So it needs no memory of its own. If several jobs
end at the same time, they leave the same file but for its heartbeat, in whatever order they write it.
"""

import datetime as dt
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from jobs.base.cutoffs import Cutoffs
from jobs.base.files import write_text
from jobs.base.home import CHAMPION_FILE
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings
from jobs.base.verdicts import VERDICTS

log = logging.getLogger(__name__)

_SEVERITY = {None: 0, "warning": 1, "critical": 2}


def metrics_path(settings: PipelineSettings) -> Path:
    """Where the file lies."""
    return settings.home / "metrics" / "esans.prom"


def update_metrics(settings: PipelineSettings) -> None:
    """Write the file anew. If it cannot be written, the log says so and no job fails."""
    path = metrics_path(settings)
    try:
        with alone_in(path.parent):  # under the lock, the records of all jobs that held it before are there
            registry = collect(settings)
            says = "When a job of this home last ended; esans_publish runs every hour."
            Gauge("esans_heartbeat_timestamp_seconds", says, registry=registry).set_to_current_time()
            write_text(path, generate_latest(registry).decode())
    except (OSError, ValueError, LookupError) as error:
        log.warning("metrics are not up to date: %s could not be written (%s)", path, error)


def collect(settings: PipelineSettings) -> CollectorRegistry:
    """Steps and gates of the latest date with a record, models and verdict of the latest date judged, and what is in force."""
    gauges = _Gauges()
    runs = sorted((path for path in (settings.home / "runs").glob("????-??-??") if path.is_dir()), reverse=True)
    if runs:
        run = runs[0]
        steps = {path.stem: _read(path) for path in sorted((run / "steps").glob("*.json"))}
        gates = {path.stem: _read(path) for path in sorted((run / "gates").glob("*.json"))}
        _about_steps(gauges, run, runs, steps)
        _about_rows(gauges, (steps.get("ingest") or {}).get("summary") or {})
        _about_gates(gauges, gates)
        # A date that was stopped has no verdict, and that of the date before is still the latest.
        judged = next((path for path in runs if (path / "verdict.json").exists()), run)
        _about_models(gauges, _read(judged / "metrics.json"))
        verdict = _read(judged / "verdict.json")
        _about_promotion(gauges, judged, verdict)
        # Homes of an earlier release have no such file before their next promotion.
        champion = (_read(settings.home / CHAMPION_FILE) or {"version": verdict.get("champion_version")})["version"]
        gauges.one("esans_champion_version", "Version that is the champion by the last decision, of whomever.", champion)
        serving = _read(settings.serving_root / "CURRENT").get("version") or None
        gauges.one("esans_serving_version", "Version of the serving bundle in force.", serving)
    return gauges.registry


class _Gauges:
    """Gauges of one registry. A value that is None is left out, and so is a gauge without any value."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def one(self, name: str, says: str, value: Any) -> None:
        """A gauge without labels."""
        if value is not None:
            Gauge(name, says, registry=self.registry).set(float(value))

    def by(self, name: str, says: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], Any]) -> None:
        """A gauge with a value for each set of labels."""
        found = {key: float(value) for key, value in values.items() if value is not None}
        if found:
            gauge = Gauge(name, says, labels, registry=self.registry)
            for key, value in found.items():
                gauge.labels(*key).set(value)

    def by_name(self, name: str, says: str, label: str, values: Mapping[str, Any]) -> None:
        """A gauge with one label."""
        self.by(name, says, (label,), {(key,): value for key, value in values.items()})


def _about_steps(gauges: _Gauges, run: Path, runs: Iterable[Path], steps: Mapping[str, Mapping[str, Any]]) -> None:
    date = dt.datetime.combine(dt.date.fromisoformat(run.name), dt.time(), dt.UTC)
    gauges.one("esans_run_date_timestamp_seconds", "Logical date of the latest run, at midnight UTC.", date.timestamp())
    finished = next(
        (path for folder in runs if _read(path := folder / "steps" / "report.json").get("state") == "success"), None
    )
    gauges.one(
        "esans_run_last_success_timestamp_seconds",
        "When the latest run that reached its report did so.",
        finished.stat().st_mtime if finished else None,
    )
    seconds = {name: record.get("seconds") for name, record in steps.items()}
    gauges.by_name("esans_step_duration_seconds", "Time that a step took.", "step", seconds)
    memory = {name: record.get("peak_memory_mb", 0) * 2**20 for name, record in steps.items()}
    gauges.by_name("esans_step_peak_memory_bytes", "Largest resident memory of a step's processes.", "step", memory)
    killed = {name: record["state"] == "killed" for name, record in steps.items()}
    gauges.by_name("esans_step_killed", "1 if the step was killed before it could say how it ended, else 0.", "step", killed)
    success = {name: record["state"] == "success" for name, record in steps.items()}
    gauges.by_name("esans_step_success", "1 if the step succeeded, else 0.", "step", success)


def _about_rows(gauges: _Gauges, ingest: Mapping[str, Any]) -> None:
    counts = {"items": ingest.get("items"), "users": ingest.get("users")}
    counts |= {f"{split}_events": count for split, count in (ingest.get("events") or {}).items()}
    gauges.by_name("esans_ingested_rows", "Rows of the latest run's input that were used.", "kind", counts)
    rejected = {table: sum(reasons.values()) for table, reasons in (ingest.get("rejected") or {}).items()}
    gauges.by_name("esans_rejected_rows", "Rows of the latest run's input that were set aside.", "table", rejected)


def _about_gates(gauges: _Gauges, gates: Mapping[str, Mapping[str, Any]]) -> None:
    worst = {stage: _SEVERITY.get(gate.get("worst"), 2) for stage, gate in gates.items()}
    gauges.by_name("esans_gate_severity", "Worst failure of a gate: 0 none, 1 warning, 2 critical.", "stage", worst)
    checked = {stage: gate["checked"] for stage, gate in gates.items()}
    gauges.by_name("esans_gate_checks", "Expectations that a gate judged.", "stage", checked)
    failures = {stage: len(gate["failures"]) for stage, gate in gates.items()}
    gauges.by_name("esans_gate_failures", "Expectations that did not hold.", "stage", failures)


def _about_models(gauges: _Gauges, metrics: Mapping[str, Any]) -> None:
    models = {name: values or {} for name, values in (metrics.get("models") or {}).items()}
    models["popularity"] = metrics.get("popularity") or {}
    cutoffs = Cutoffs.of(metrics)
    for kind, ks in (("recall", cutoffs.ks), ("ndcg", cutoffs.ks[:1])):
        values: dict[tuple[str, ...], Any] = {
            (name, str(k)): found.get(f"{kind}_{k}") for name, found in models.items() for k in ks
        }
        says = f"Mean {kind} at k on the hold-out, over the full catalogue."
        gauges.by(f"esans_model_{kind}_ratio", says, ("model", "k"), values)
    coverage = {name: found.get(cutoffs.coverage) for name, found in models.items()}
    says = f"Share of the catalogue in the users' top {cutoffs.first}."
    gauges.by_name("esans_model_coverage_ratio", says, "model", coverage)


def _about_promotion(gauges: _Gauges, run: Path, verdict: Mapping[str, Any]) -> None:
    if word := verdict.get("verdict"):
        date = dt.datetime.combine(dt.date.fromisoformat(run.name), dt.time(), dt.UTC)
        says = "Logical date of the latest verdict, at midnight UTC."
        gauges.one("esans_verdict_date_timestamp_seconds", says, date.timestamp())
        says = "1 for the latest verdict, 0 for all others."
        gauges.by_name("esans_promotion_verdict", says, "verdict", {name: name == word for name in VERDICTS})


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
