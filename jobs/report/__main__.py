"""The report of a run: `python -m jobs.report`. Reads what the other steps left; needs none of them to have succeeded."""

import shutil
from typing import Any

from jobs.base.cutoffs import Cutoffs
from jobs.base.files import write_json
from jobs.base.publish import published_folder
from jobs.base.settings import PipelineSettings
from jobs.report.facts import RunFacts
from jobs.report.gallery import gallery
from jobs.report.headline import Headline, headline
from jobs.report.history import publish_history
from jobs.report.page import render_page
from jobs.report.profile import build_profile
from jobs.report.summary import build_summary, report_folder
from jobs.step.runtime import run_job


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Publish `<home>/reports/D/` (index.html and its pictures) and the page of all dates, `<home>/reports/index.html`.

    Also writes `<run_dir>/summary.json` and `profile.json`, and puts the verdict on the version's page in MLflow.
    """
    facts = RunFacts.collect(settings)
    summary = build_summary(settings, facts)
    head = headline(facts, summary)
    drawn, pictures = gallery(facts)
    with published_folder(report_folder(settings)) as folder:
        for picture in pictures:
            shutil.copyfile(drawn / picture.file, folder / picture.file)
        (folder / "index.html").write_text(render_page(facts, summary, head, pictures), encoding="utf-8")
    write_json(settings.run_dir / "summary.json", summary | {"headline": head.as_json()})
    write_json(settings.run_dir / "profile.json", build_profile(facts))
    publish_history(settings)
    _renew_review(settings, facts)
    verdict = facts.verdict
    return {"pictures": [picture.file for picture in pictures], "report": summary["where"]["report"]} | {
        "answer": head.answer,
        "losses": list(head.losses),
        "verdict": verdict.get("verdict"),
        "version": verdict.get("version"),
        **_in_numbers(facts, head),
    }


def _in_numbers(facts: RunFacts, head: Headline) -> dict[str, Any]:
    """Recall, its difference to champion and baseline with intervals, and counts; what was not measured is left out."""
    recall = Cutoffs.of(facts.metrics).recall
    found: dict[str, Any] = {recall: ((facts.metrics.get("models") or {}).get("challenger") or {}).get(recall)}
    found |= {"users": facts.metrics.get("users"), "items": facts.stats("items").get("items")}
    for gap in head.gaps:
        if gap.part == Cutoffs.of(facts.metrics).labels[recall]:
            found[f"difference_to_{gap.opponent}"] = [gap.change, gap.low, gap.high]
    return {name: value for name, value in found.items() if value is not None}


def _renew_review(settings: PipelineSettings, facts: RunFacts) -> None:
    """What a reviewer of the date's version sees, now with the verdict; nothing where the run did not come to one."""
    run_key = facts.stats("challenger").get("run_key")
    if not run_key or not facts.verdict:
        return
    from jobs.registry.versions import find_version
    from jobs.report.review import log_review  # with MLflow, which a run that stopped early never needs

    version = find_version(settings, run_key)
    if version is not None and version.run_id and str(version.version) == facts.verdict.get("version"):
        log_review(settings, version.run_id, version)


if __name__ == "__main__":
    run_job("report", run)
