"""All dates on one page, `<home>/reports/index.html`: challenger against champion, what was promoted and why, and drift."""

import datetime as dt
import json
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
from jobs.report.profile import stability_index
from jobs.serving.store import ServingStore

_DATES = 120  # latest ones on the page; the reports of earlier dates stay where they are
_LISTED = 40
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
    rows = collect(settings.home)
    figures = {}
    with TemporaryDirectory(prefix="esans-history-") as scratch:
        for name, (draw, caption) in _FIGURES.items():
            if rows:
                path = Path(scratch) / f"{name}.png"
                draw(rows, path)
                figures[name] = {"source": embedded(path), "caption": caption}
    path = settings.home / "reports" / "index.html"
    text = html("history.html").render(
        rows=rows[::-1],
        figures=figures,
        in_production=ServingStore.of(settings).history()[::-1][:_LISTED],
        actions=_actions(settings.home)[:_LISTED],
        promotions=sum(row["verdict"].get("verdict") == PROMOTED for row in rows),
        model=settings.registry.model_name,
    )
    write_text(path, text)
    return path


def collect(home: Path) -> list[dict[str, Any]]:
    """One row for each of the latest dates that have a run, oldest first.

    Returns:
        date, models, cutoffs, users, verdict, verdict_text, tone, by, profile, moved (distribution -> stability index against
        the latest earlier date that has one), and report, the address of the date's own page where there is one.
    """
    rows: list[dict[str, Any]] = []
    before: dict[str, dict[str, int]] = {}
    for folder in sorted(path for path in (home / "runs").glob("????-??-??") if path.is_dir())[-_DATES:]:
        metrics, verdict, profile = (_read(folder / f"{name}.json") for name in ("metrics", "verdict", "profile"))
        shapes = profile.get("distributions") or {}
        rows.append(
            {
                "date": dt.date.fromisoformat(folder.name),
                "models": metrics.get("models") or {},
                "cutoffs": Cutoffs.of(metrics),
                "users": metrics.get("users"),
                "verdict": verdict,
                "verdict_text": verdict_text(verdict),
                "tone": verdict_tone(verdict),
                "by": verdict.get("reviewed_by") or verdict.get("promoted_by") or "",
                "profile": profile,
                "moved": {name: stability_index(before[name], counts) for name, counts in shapes.items() if name in before},
                "report": f"{folder.name}/index.html" if (home / "reports" / folder.name / "index.html").exists() else None,
            }
        )
        before = shapes or before
    return rows


def _actions(home: Path) -> list[dict[str, Any]]:
    """What somebody did by hand, latest first."""
    found = [_read(path) | {"action": path.stem.replace("_", " ")} for path in (home / "actions").glob("*/*.json")]
    return sorted(found, key=lambda record: str(record.get("started_at")), reverse=True)


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
