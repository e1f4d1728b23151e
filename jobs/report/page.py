"""The report's page: one HTML file with its own style, and the pictures beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.base.accounting import accounting
from jobs.base.cutoffs import Cutoffs
from jobs.gates.stages import STAGES
from jobs.pages.templates import html
from jobs.pages.words import MODELS, verdict_text
from jobs.report.facts import RunFacts
from jobs.report.gallery import embedded
from jobs.report.headline import Headline
from jobs.report.interactive import SCRIPTS, comparison_chart
from jobs.report.layout import training_sentences
from jobs.report.pictures import Picture
from jobs.report.sentences import picture_sentences, trait_sentences, user_sentences
from jobs.report.state import links_of

_LISTED = 12


def render_page(
    facts: RunFacts,
    summary: Mapping[str, Any],
    head: Headline,
    pictures: Sequence[Picture],
    *,
    embed_from: Path | None = None,
) -> str:
    """The HTML of a report.

    Args:
        facts: records of the run.
        summary: as `build_summary` makes it.
        head: as `headline` makes it.
        pictures: PNGs that lie beside the page.
        embed_from: folder of the PNGs where the page must hold them itself.
    """
    charts = {picture.file: picture.chart for picture in pictures}
    verdict, visual = summary.get("verdict") or {}, (summary.get("views") or {}).get("visual") or {}
    return html("page.html").render(
        summary=summary,
        training=training_sentences(summary),
        about_pictures=[_sentence(each) for each in trait_sentences(visual) + picture_sentences(visual)],
        about_users=[_sentence(each) for each in user_sentences(summary)],
        accounting=[_sentence(each) for each in accounting(summary.get("ingest") or {})],
        verdict=verdict,
        verdict_text=verdict_text(verdict | {"concerns": []} if verdict else None),  # they stand among the warnings
        headline=head,
        links=links_of(facts.settings.run_dir),
        start=None if embed_from else "../index.html",
        charts={} if embed_from else charts | {"comparison.png": comparison_chart(head.gaps)},
        scripts=() if embed_from else SCRIPTS,
        models=MODELS,
        stages=STAGES,
        metrics=Cutoffs.of(summary).labels,
        recall=Cutoffs.of(summary).recall,
        pictures={picture.file: picture for picture in pictures},
        sources={picture.file: embedded(embed_from / picture.file) if embed_from else picture.file for picture in pictures},
        quarantine=_quarantine(facts),
        manifests=facts.manifests,
        settings=facts.settings.flat(),
        git_sha=next((manifest["git_sha"] for manifest in facts.manifests.values()), "unknown"),
        config_hash=facts.settings.config_hash(),
        total_seconds=sum(step.get("seconds") or 0 for step in summary["steps"]),
        peak_memory=max((step.get("peak_memory_mb") or 0 for step in summary["steps"]), default=0),
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _quarantine(facts: RunFacts) -> list[dict[str, Any]]:
    """Examples of rows that were set aside: a few of each table and reason."""
    rows = facts.frame("quarantine", ["table", "key", "column", "reason", "value"])
    if rows is None or rows.empty:
        return []
    few = rows.groupby(["table", "reason"], sort=True).head(max(2, _LISTED // rows.groupby(["table", "reason"]).ngroups))
    few = few.astype(object).where(few.notna(), None).head(4 * _LISTED)
    return [{str(name): value for name, value in row.items()} for row in few.to_dict("records")]
