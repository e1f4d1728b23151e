"""The start page, `<home>/reports/index.html`: what is in force, the last verdict, what waits, and all dates with their drift.

It is written anew by the report of a date, when a review begins to wait, after each action on champion or bundle, and after a
failure. So it is as new as the last of these, and so are the first lines of each report, which are renewed with it.
"""

import datetime as dt
import json
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs.base.cutoffs import Cutoffs
from jobs.base.files import write_text
from jobs.base.settings import PipelineSettings
from jobs.base.verdicts import PROMOTED
from jobs.pages.templates import html
from jobs.pages.words import verdict_text, verdict_tone
from jobs.report import history_charts
from jobs.report.gallery import embedded
from jobs.report.interactive import SCRIPTS, publish_scripts
from jobs.report.page import renew_heads
from jobs.report.profile import stability_index
from jobs.report.state import Since, actions_of, decided_at, in_force, links_of, since_verdict, trouble, waiting
from jobs.serving.store import ServingStore

_DATES = 120  # latest ones on the page; the reports of earlier dates stay where they are
_LISTED = 40
_STOPPED = 3  # dates without a verdict that are said above the table
_FIGURES = {
    "quality": (
        history_charts.quality_chart,
        "Recall and NDCG of challenger, champion and baseline by date, at 50, in a small catalogue at a tenth of it. Each date "
        "has its own hold-out, so compare the lines with each other rather than one date with another; a ring marks a "
        "promotion.",
    ),
    "input": (
        history_charts.input_chart,
        "Events, new items, items with each view, and the stability index of four distributions against the date before: "
        "below 0.1 is calm, above 0.25 a shift.",
    ),
    "model": (
        history_charts.model_chart,
        "How far the model moved from the date before: mean cosine of the vectors of items of both dates once one set is "
        "turned onto the other, unchanged items with another primary cluster, and the way of the primary codes.",
    ),
}


def publish_history(settings: PipelineSettings) -> Path:
    """Write the page anew from the records of all dates; nothing of it is kept from one time to the next."""
    renew_heads(settings)
    rows = collect(settings)
    figures = {}
    with TemporaryDirectory(prefix="esans-history-") as scratch:
        for name, (draw, caption) in _FIGURES.items():
            path = Path(scratch) / f"{name}.png"
            if rows and (chart := draw(rows, path)) is not None:
                figures[name] = {"source": embedded(path), "caption": caption, "chart": chart}
    path = settings.home / "reports" / "index.html"
    store, actions = ServingStore.of(settings).history(), actions_of(settings.home)
    decided = [row for row in rows if row["verdict"]]
    lead = max(decided, key=_latest, default=None)
    text = html("history.html").render(
        rows=sorted(rows, key=_latest, reverse=True),
        lead=lead,
        links={} if lead is None else links_of(settings.home / "runs" / str(lead["date"])),
        stopped=[row for row in rows[::-1] if not row["verdict"]][:_STOPPED],
        waiting=waiting(settings.home),
        in_force=in_force(store, actions),
        servers={name: os.environ.get(f"ESANS_{name.upper()}_UI", "") for name in ("Airflow", "MLflow")},
        figures=figures,
        scripts=SCRIPTS,
        in_production=store[::-1][:_LISTED],
        actions=actions[:_LISTED],
        promotions=sum(row["verdict"].get("verdict") == PROMOTED for row in rows),
        model=settings.registry.model_name,
    )
    publish_scripts(path.parent)
    write_text(path, text)
    return path


def collect(settings: PipelineSettings) -> list[dict[str, Any]]:
    """One row for each of the latest dates that have a run, oldest first.

    Returns:
        date, models, cutoffs, users, verdict, verdict_text, tone, headline (of the summary), since (`since_verdict`),
        decided_at, trouble, by, profile, moved (distribution -> stability index against the latest earlier date that has one),
        and report, the address of the date's own page where there is one.
    """
    rows: list[dict[str, Any]] = []
    home = settings.home
    before: dict[str, dict[str, int]] = {}
    for folder in sorted(path for path in (home / "runs").glob("????-??-??") if path.is_dir())[-_DATES:]:
        names = ("metrics", "verdict", "profile", "summary")
        metrics, verdict, profile, summary = (_read(folder / f"{name}.json") for name in names)
        shapes = profile.get("distributions") or {}
        told = (summary.get("headline") or {}) if summary.get("verdict") == verdict else {}  # else it is of an earlier verdict
        since = since_verdict(settings, folder.name, verdict)
        rows.append(
            {
                "date": dt.date.fromisoformat(folder.name),
                "models": metrics.get("models") or {},
                "cutoffs": Cutoffs.of(metrics),
                "users": metrics.get("users"),
                "verdict": verdict,
                "verdict_text": verdict_text(verdict, still=since is None or since.serves),
                "tone": _tone(verdict, told, since),
                "headline": told,
                "since": since,
                "decided_at": decided_at(folder),
                "trouble": trouble(folder),
                "by": verdict.get("reviewed_by") or verdict.get("promoted_by") or "",
                "profile": profile,
                "moved": {name: stability_index(before[name], counts) for name, counts in shapes.items() if name in before},
                "report": f"{folder.name}/index.html" if (home / "reports" / folder.name / "index.html").exists() else None,
            }
        )
        before = shapes or before
    return rows


def _tone(verdict: Mapping[str, Any], told: Mapping[str, Any], since: Since | None) -> str:
    """The colour of a date: green only if its report found nothing to warn of, and its version has not been taken back."""
    own = told.get("tone") or verdict_tone(verdict)
    return (since.tone if since else "") or ("plain" if own == "good" and not told else own)


def _latest(row: dict[str, Any]) -> tuple[float, dt.date]:
    """Decisions in the order of time; dates without one come before all others, in theirs."""
    return row["decided_at"], row["date"]


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
