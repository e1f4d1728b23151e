"""The report's page: one HTML file with its own style, and the pictures beside it."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.base.accounting import accounting
from jobs.base.cutoffs import Cutoffs
from jobs.base.files import write_text
from jobs.base.settings import PipelineSettings
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
from jobs.report.state import Since, links_of, since_verdict

_LISTED = 12
_MARKS = ("<!-- head -->", "<!-- /head -->")
_HEAD = re.compile(f"{_MARKS[0]}.*?{_MARKS[1]}", re.DOTALL)


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
    since = None if embed_from else since_verdict(facts.settings, facts.settings.ds, facts.verdict)
    verdict, visual = summary.get("verdict") or {}, (summary.get("views") or {}).get("visual") or {}
    return html("page.html").render(
        summary=summary,
        training=training_sentences(summary),
        about_pictures=[_sentence(each) for each in trait_sentences(visual) + picture_sentences(visual)],
        about_users=[_sentence(each) for each in user_sentences(summary)],
        accounting=[_sentence(each) for each in accounting(summary.get("ingest") or {})],
        verdict=verdict,
        verdict_text=_verdict_text(verdict, since),
        head=_head(verdict, head.as_json(), since),
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


def renew_heads(settings: PipelineSettings) -> None:
    """Say first in the report of each date what has become of its version since, where the report does not say so yet.

    Reports of an earlier release, and those of dates that are being run again, stay as they are.
    """
    for path in sorted((settings.home / "reports").glob("????-??-??/index.html")):
        kept, date = settings.home / "runs" / path.parent.name / "summary.json", path.parent.name
        summary = json.loads(kept.read_text()) if kept.exists() else {}
        verdict, told = summary.get("verdict") or {}, summary.get("headline") or {}
        if not verdict or "numbers" not in told:
            continue
        with suppress(FileNotFoundError):  # a report that takes its place at this moment says the same
            text, head = path.read_text(encoding="utf-8"), _head(verdict, told, since_verdict(settings, date, verdict))
            found = _HEAD.search(text)
            renewed = text[: found.start()] + head + text[found.end() :] if found else text
            if renewed != text:
                write_text(path, renewed)


def _head(verdict: Mapping[str, Any], told: Mapping[str, Any], since: Since | None) -> str:
    """The first lines of a report, between marks by which `renew_heads` finds them."""
    tone, text = (since.tone if since else "") or told["tone"], _verdict_text(verdict, since)
    lines = html("verdict.html").render(headline=told, standing=since, verdict_text=text, tone=tone)
    return f"{_MARKS[0]}\n{lines}{_MARKS[1]}"


def _verdict_text(verdict: Mapping[str, Any], since: Since | None) -> str:
    still = since is None or since.serves
    return verdict_text({**verdict, "concerns": []} if verdict else None, still=still)  # they stand among the warnings


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
