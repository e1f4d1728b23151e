"""The file for Prometheus: every line parses, it shows the newest date, and jobs that end together all leave their records."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.step.metrics_file import metrics_path, update_metrics
from tests.jobs.records import metrics


def samples(settings: PipelineSettings) -> dict[str, float]:
    """`name{labels}` -> value, as Prometheus' own parser reads the file. All in it must be gauges with a description."""
    found = {}
    for family in text_string_to_metric_families(metrics_path(settings).read_text()):
        assert family.type == "gauge" and family.documentation
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def step(settings: PipelineSettings, name: str, date: str = "", **changes: object) -> None:
    record = {"step": name, "state": "success", "seconds": 2.5, "peak_memory_mb": 100, "summary": {}, "message": ""}
    write_json(settings.home / "runs" / (date or settings.ds) / "steps" / f"{name}.json", record | changes)


def test_the_latest_run_speaks(settings: PipelineSettings) -> None:
    summary = {"items": 200, "users": 150, "events": {"train": 900, "holdout": 50}, "rejected": {"items": {"a": 2, "b": 3}}}
    step(settings, "ingest", summary=summary)
    step(settings, "train_challenger", state="failed", seconds=0.5)
    step(settings, "report", "2026-01-27")
    step(settings, "register", "2026-01-27")
    os.utime(settings.home / "runs" / "2026-01-27" / "steps" / "report.json", (1_700_000_000, 1_700_000_000))
    write_json(settings.run_dir / "gates" / "raw.json", {"worst": "warning", "checked": 9, "failures": [{}]})
    models = {"challenger": metrics(recall_50=0.25, recall_120=0.4), "champion": None}
    measured = {"ks": [50, 120], "models": models, "popularity": {"recall_50": 0.1}}
    write_json(settings.run_dir / "metrics.json", measured)
    write_json(settings.run_dir / "verdict.json", {"verdict": "kept_champion", "champion_version": "4"})
    (settings.home / "serving").mkdir()
    (settings.home / "serving" / "CURRENT").write_text('{"version": "4"}')
    update_metrics(settings)
    found = samples(settings)
    expected = {
        'esans_step_duration_seconds{step="ingest"}': 2.5,
        'esans_step_peak_memory_bytes{step="ingest"}': 100 * 2**20,
        'esans_step_success{step="ingest"}': 1,
        'esans_step_success{step="train_challenger"}': 0,
        'esans_ingested_rows{kind="train_events"}': 900,
        'esans_rejected_rows{table="items"}': 5,
        'esans_gate_severity{stage="raw"}': 1,
        'esans_gate_failures{stage="raw"}': 1,
        'esans_model_recall_ratio{k="50",model="challenger"}': 0.25,
        'esans_model_recall_ratio{k="120",model="challenger"}': 0.4,
        'esans_model_recall_ratio{k="50",model="popularity"}': 0.1,
        'esans_promotion_verdict{verdict="kept_champion"}': 1,
        'esans_promotion_verdict{verdict="promoted"}': 0,
        "esans_champion_version": 4,
        "esans_serving_version": 4,
        "esans_run_date_timestamp_seconds": 1_769_558_400,
        "esans_run_last_success_timestamp_seconds": 1_700_000_000,
    }
    assert {name: found[name] for name in expected} == expected
    assert not [name for name in found if "register" in name or 'model="champion"' in name]


def test_a_killed_step_is_there_and_a_stopped_date_does_not_hide_the_latest_verdict(settings: PipelineSettings) -> None:
    step(settings, "report", "2026-01-27")
    write_json(settings.home / "runs" / "2026-01-27" / "verdict.json", {"verdict": "promoted", "champion_version": "4"})
    write_json(settings.home / "runs" / "2026-01-27" / "metrics.json", {"models": {"challenger": metrics(recall_50=0.25)}})
    step(settings, "ingest", state="killed")
    update_metrics(settings)
    found = samples(settings)
    assert (found['esans_step_success{step="ingest"}'], found['esans_step_killed{step="ingest"}']) == (0, 1)
    assert 'esans_step_success{step="report"}' not in found  # steps are those of the latest date
    assert found['esans_promotion_verdict{verdict="promoted"}'] == 1
    assert found['esans_model_recall_ratio{k="50",model="challenger"}'] == 0.25
    assert found["esans_run_date_timestamp_seconds"] - found["esans_verdict_date_timestamp_seconds"] == 86_400


def test_nothing_yet_is_a_heartbeat_alone_and_a_broken_record_fails_no_job(settings: PipelineSettings) -> None:
    update_metrics(settings)
    assert samples(settings).keys() == {"esans_heartbeat_timestamp_seconds"}
    step(settings, "ingest")
    update_metrics(settings)
    before = metrics_path(settings).read_text()
    (settings.run_dir / "verdict.json").write_text("{")
    update_metrics(settings)
    assert metrics_path(settings).read_text() == before != ""


@pytest.mark.slow
def test_jobs_that_end_together_are_all_there(settings: PipelineSettings) -> None:
    code = "import sys\nfrom jobs.step.runtime import run_job\nrun_job(sys.argv.pop(1), lambda settings: {})"
    names = [f"step_{number}" for number in range(4)]
    here = Path(__file__).parents[3]
    command = [sys.executable, "-c", code]
    flags = ["--home", str(settings.home)]
    jobs = [subprocess.Popen([*command, name, *flags], cwd=here, stderr=subprocess.PIPE, text=True) for name in names]
    for job in jobs:
        assert job.wait(timeout=120) == 0, job.stderr and job.stderr.read()
    found = samples(settings)
    assert {f'esans_step_success{{step="{name}"}}' for name in names} <= found.keys()
    assert [path.name for path in metrics_path(settings).parent.iterdir() if path.name != ".lock"] == ["esans.prom"]
    assert json.loads((settings.run_dir / "steps" / "step_0.json").read_text())["state"] == "success"


def test_the_heartbeat_says_when_a_job_last_ended(settings: PipelineSettings) -> None:
    before = time.time()
    update_metrics(settings)
    (line,) = [line for line in metrics_path(settings).read_text().splitlines() if line.startswith("esans_heartbeat_timestamp")]
    assert before <= float(line.split()[1]) <= time.time()
