"""What somebody who reviews a version finds in MLflow: card, tags, numbers, pictures, pages and lineage, without leaving it.

Files lie below `review/` among the artefacts of the version's run, never among the version's own files: those are what
was judged, and nothing may be added to them.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.entities.model_registry import ModelVersion

from jobs.base.cutoffs import Cutoffs
from jobs.base.files import folder_digest
from jobs.base.places import uri_of
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.gates.stages import STAGES
from jobs.lake.tables import Lake
from jobs.pages.addresses import airflow_run, report_page
from jobs.pages.words import verdict_text
from jobs.registry.card import model_card
from jobs.registry.comparison import gate_outcomes
from jobs.registry.intervals import metric_intervals
from jobs.registry.versions import CHAMPION, MAX_TEXT, champion_version
from jobs.report.facts import RunFacts
from jobs.report.gallery import gallery
from jobs.report.gate_page import render_gates
from jobs.report.headline import headline
from jobs.report.page import render_page
from jobs.report.summary import build_summary

log = logging.getLogger(__name__)

FOLDER = "review"
_SHOWN = "esans.review_digest"  # tag of a version: what its review shows, so that the same is not logged twice
_LOGGED = "models:/"
_ON_THE_CARD = (
    "metrics.png", "learning_curves.png", "negatives.png", "cluster_sizes.png", "item_map.png", "clusters.png",
    "neighbours.png",
)  # fmt: skip
# Tables of the lineage and what they were for; training logs itself what it reads.
_LINEAGE = {
    "items": "training",
    "interactions": "ingest",
    "sequences": "training",
    "codebooks": "training",
    "clusters": "clusters",
    "evaluation": "evaluation",
}


def log_review(settings: PipelineSettings, run_id: str, version: ModelVersion) -> None:
    """Put on the version's page, and on its run, what a reviewer has to know; what is there already is left alone.

    Called when a version is registered and again after its verdict, which then is part of it.

    Args:
        settings: of the run.
        run_id: MLflow run that the version belongs to.
        version: made from the date's challenger, whose evaluation is in lake and run folder.
    """
    registry, facts = client(settings), RunFacts.collect(settings)
    verdict = _verdict(settings, facts, version)
    facts = replace(facts, verdict=verdict)
    drawn, pictures = gallery(facts)
    with TemporaryDirectory(prefix="esans-review-") as scratch:
        folder = Path(scratch)
        for picture in pictures:
            shutil.copyfile(drawn / picture.file, folder / picture.file)
        summary = build_summary(settings, facts)
        page = render_page(facts, summary, headline(facts, summary), pictures, embed_from=drawn)
        (folder / "report.html").write_text(page, encoding="utf-8")
        (folder / "gates.html").write_text(render_gates(facts), encoding="utf-8")
        shown = [name for name in _ON_THE_CARD if (folder / name).exists()]
        more = _more(settings, registry, run_id, verdict, shown)
        gates, manifests = gate_outcomes(settings), facts.manifests
        logged = registry.get_run(run_id).data.metrics
        serving = {name: value for name, value in logged.items() if name.startswith("serving_")}
        card = model_card(
            settings,
            facts.metrics,
            metric_intervals(settings, Cutoffs.of(facts.metrics)),
            manifests,
            gates,
            serving=serving,
            more=more,
        )
        (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
        digest = folder_digest(folder)
        if registry.get_model_version(version.name, version.version).tags.get(_SHOWN) == digest:
            return
        registry.log_artifacts(run_id, str(folder), FOLDER)
    _log_lineage(settings, registry, run_id)
    _log_numbers(facts, registry, run_id, version)
    registry.update_model_version(version.name, version.version, card[:MAX_TEXT])
    tags = {"esans.codebooks": manifests["codebooks"]["digest"], "esans.gates": _gates_in_short(gates), _SHOWN: digest}
    for key, value in tags.items():  # the digest last: what it stands for is all there by then
        registry.set_model_version_tag(version.name, version.version, key, value)
    log.info("version %s of %s: review logged (%d pictures)", version.version, version.name, len(pictures))


def _verdict(settings: PipelineSettings, facts: RunFacts, version: ModelVersion) -> dict[str, Any]:
    """The verdict on this version; an earlier one of the date may be about another."""
    if facts.verdict.get("version") == str(version.version):
        return facts.verdict
    champion = champion_version(settings)
    return {
        "verdict": "not_judged_yet",
        "version": str(version.version),
        "champion_version": None if champion is None else str(champion.version),
        "alias": CHAMPION,
    }


def _more(settings: PipelineSettings, registry: MlflowClient, run_id: str, verdict: dict[str, Any], pictures: list[str]) -> str:
    """The card's verdict, its links into the run and to the pages that the stack serves, and its pictures."""
    run = f"#/experiments/{registry.get_run(run_id).info.experiment_id}/runs/{run_id}/artifacts/{FOLDER}"
    files = {"report of the run": "report.html", "gates, check by check": "gates.html", "all pictures": ""}
    places = {said: f"{run}/{file}".rstrip("/") for said, file in files.items()}
    places |= {"report, as it is now": report_page(settings.run_dir), "run in Airflow": airflow_run(settings.run_dir)}
    links = ", ".join(f"[{said}]({address})" for said, address in places.items() if address)
    images = [f"![](get-artifact?path={quote(FOLDER + '/' + name)}&run_uuid={run_id})" for name in pictures]
    return "\n\n".join(["## Verdict", verdict_text(verdict), "## Look", links, *images])


def _log_lineage(settings: PipelineSettings, registry: MlflowClient, run_id: str) -> None:
    lake, inputs = Lake.of(settings), registry.get_run(run_id).inputs
    logged = {entry.dataset.name for entry in inputs.dataset_inputs} if inputs else set()
    found = []
    for table, purpose in _LINEAGE.items():
        if table not in logged:
            source = LocalArtifactDatasetSource(uri_of(lake.path(table, settings.date)))
            digest = lake.manifest(table, settings.date)["digest"][:8]
            dataset = Dataset(table, digest, "local", source.to_json())
            found.append(DatasetInput(dataset, [InputTag("mlflow.data.context", purpose)]))
    if found:
        registry.log_inputs(run_id, found)


def _log_numbers(facts: RunFacts, registry: MlflowClient, run_id: str, version: ModelVersion) -> None:
    """The hold-out metrics on the run and on the model, so that versions can be compared side by side."""
    # A version read back from the registry has lost its `model_id`; its source names it.
    model_id = (version.source or "").removeprefix(_LOGGED) if (version.source or "").startswith(_LOGGED) else None
    for name, value in facts.metrics["models"]["challenger"].items():
        if value is not None:
            registry.log_metric(
                run_id,
                f"holdout_{name}",
                float(value),
                model_id=model_id,
                dataset_name="evaluation",
                dataset_digest=facts.manifests["evaluation"]["digest"][:8],
            )


def _gates_in_short(gates: dict[str, dict[str, Any] | None]) -> str:
    found = [record for record in gates.values() if record]
    passed = sum(bool(record["success"]) for record in found)
    warnings = sum(failure["severity"] == "warning" for record in found for failure in record["failures"])
    return f"{passed} of {len(STAGES)} passed, {warnings} warnings"
