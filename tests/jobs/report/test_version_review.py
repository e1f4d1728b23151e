"""What a reviewer finds with a version: written once, complete before the verdict, and renewed by it."""

import json
from pathlib import Path

import pytest

from jobs import register
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.gates.stages import STAGES
from jobs.registry.versions import MAX_TEXT
from jobs.report.review import FOLDER, log_review
from tests.jobs.registry.test_registry import prepare_day, write_gate

pytestmark = pytest.mark.mlflow


def artifacts(settings: PipelineSettings, run_id: str) -> dict[str, int | None]:
    return {Path(entry.path).name: entry.file_size for entry in client(settings).list_artifacts(run_id, FOLDER)}


def store_results(settings: PipelineSettings) -> None:
    """A result as Great Expectations keeps it."""
    folder = settings.home / "gx" / "uncommitted" / "validations" / "raw" / "items" / settings.ds / "20260128T000000"
    outcomes = [
        {
            "success": holds,
            "expectation_config": {
                "type": "expect_x",
                "kwargs": {"column": "title"},
                "meta": {"says": says},
                "severity": "warning",
            },
            "result": {"unexpected_count": 3, "element_count": 1200},
        }
        for says, holds in (("titles are <there>", True), ("titles are short", False))
    ]
    write_json(folder / "spark-raw.items.json", {"results": outcomes})


def test_a_version_carries_its_review_before_and_after_the_verdict(
    settings: PipelineSettings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare_day(settings)
    store_results(settings)
    failure = {"severity": "warning", "message": "labels moved", "column": None, "remedy": "look"}
    write_gate(settings, "clusters", worst="warning", failures=[failure])
    number = register.run(settings)["version"]
    registry, name = client(settings), settings.registry.model_name
    version = registry.get_model_version(name, number)
    files = artifacts(settings, version.run_id)
    assert {"report.html", "gates.html", "MODEL_CARD.md", "metrics.png"} <= files.keys()

    card = version.description
    assert len(card) <= MAX_TEXT
    assert f"NOT JUDGED YET: version {number} is registered, no version carries the alias 'champion'" in card
    assert f"![](get-artifact?path=review/metrics.png&run_uuid={version.run_id})" in card
    assert "| Recall@50 | 0.2000 | 0.1500 | +0.0500 [" in card
    assert version.tags["esans.gates"] == f"{len(STAGES)} of {len(STAGES)} passed, 1 warnings"
    assert len(version.tags["esans.codebooks"]) == 64

    def text(file: str) -> str:
        return Path(registry.download_artifacts(version.run_id, f"{FOLDER}/{file}", str(settings.home))).read_text()

    report, gates = text("report.html"), text("gates.html")
    assert 'src="data:image/png;base64,' in report and 'src="metrics.png"' not in report
    assert "titles are &lt;there&gt;" in gates and "3 of 1,200 rows" in gates and "labels moved" in gates
    assert gates.index("titles are short") < gates.index("titles are &lt;there&gt;")  # what does not hold comes first

    run = registry.get_run(version.run_id)
    lineage = {entry.dataset.name: json.loads(entry.dataset.source)["uri"] for entry in run.inputs.dataset_inputs}
    assert {"items", "interactions", "sequences", "codebooks"} <= lineage.keys()
    assert Path(lineage["codebooks"].removeprefix("file://")).name.startswith("v-")
    measured = {
        metric.key: metric.value for metric in registry.get_logged_model(version.source.removeprefix("models:/")).metrics
    }
    assert measured["holdout_recall_50"] == 0.2

    log_review(settings, version.run_id, version)
    assert registry.get_model_version(name, number) == version
    assert len(registry.get_metric_history(version.run_id, "holdout_recall_50")) == 1

    assert "run in Airflow" not in card and "as it is now" not in card, "nobody knows where they are"
    monkeypatch.setenv("ESANS_REPORTS_UI", "http://127.0.0.1:8090")
    monkeypatch.setenv("ESANS_AIRFLOW_UI", "http://127.0.0.1:8080/")
    write_json(settings.run_dir / "steps" / "prepare.json", {"run": "manual__1"})
    write_json(
        settings.run_dir / "verdict.json", {"verdict": "rejected_in_review", "version": number, "champion_version": None}
    )
    log_review(settings, version.run_id, version)
    after = registry.get_model_version(name, number)
    assert "NOT PROMOTED, rejected in review" in after.description
    assert f"[report, as it is now](http://127.0.0.1:8090/{settings.ds}/)" in after.description
    assert "[run in Airflow](http://127.0.0.1:8080/dags/esans_daily_retraining/runs/manual__1)" in after.description
    assert "NOT PROMOTED, rejected in review" in text("report.html")
    write_json(settings.run_dir / "verdict.json", {"verdict": "promoted", "version": "99", "champion_version": "99"})
    log_review(settings, version.run_id, version)  # what is said of another version is not said of this one
    assert "NOT JUDGED YET" in registry.get_model_version(name, number).description
