"""The pages of a search: all its trials for people who want to see, and what is proposed for the one who decides."""

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jobs.pages.templates import html, markdown
from jobs.report.gallery import embedded
from jobs.tuning import charts
from jobs.tuning.proposal import recall_label

_CAPTIONS = {
    "history": "Recall of each trial, at the best of its epochs. A cross is a trial that was given up before its last epoch, "
    "because others were better at the same part of their epochs.",
    "settings": "Recall of each trial by its value of each setting. All settings change at once, so a single panel shows a "
    "tendency and proves nothing.",
}


def page(found: Mapping[str, Any]) -> str:
    """The HTML of a search; the charts are inside.

    Args:
        found: content of `proposal.json`.
    """
    label, figures = recall_label(found["metric"]), {}
    with TemporaryDirectory(prefix="esans-tuning-") as scratch:
        if any(row["state"] == "finished" for row in found["trials"]):
            files = {name: Path(scratch) / f"{name}.png" for name in _CAPTIONS}
            charts.history_chart(found["trials"], label, files["history"])
            charts.settings_chart(found["trials"], found["searched"], label, files["settings"])
            figures = {name: {"source": embedded(file), "caption": _CAPTIONS[name]} for name, file in files.items()}
    return html("tuning.html").render(found=found, label=label, figures=figures, rows=_ordered(found), short=_short)


def review(found: Mapping[str, Any]) -> str:
    """The Markdown of the page on which a person approves or rejects the proposal.

    Args:
        found: content of `proposal.json`.
    """
    return markdown("tuning.md").render(found=found, label=recall_label(found["metric"]))


def _ordered(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The best trial first, and those without a result last."""
    place = {"finished": 0, "pruned": 1}
    return sorted(
        found["trials"], key=lambda row: (place.get(row["state"], 2), -(row["recall"] or -sys.maxsize), row["number"])
    )


def _short(name: str) -> str:
    """The name of a setting as the head of a column."""
    return name.partition(".")[2].replace("_", " ")
