"""The gates of a run on one page that needs no other file: what each found, and every expectation that was judged."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.gates.stages import STAGES
from jobs.pages.templates import html
from jobs.report.facts import RunFacts


def render_gates(facts: RunFacts) -> str:
    """The HTML; gates that were not run are said to be missing."""
    gates = {stage: facts.gates.get(stage) for stage in STAGES}
    stored = facts.settings.home / "gx" / "uncommitted" / "validations"
    results = {stage: _results(stored / stage, facts.settings.ds) for stage in STAGES}
    return html("gates.html").render(date=facts.settings.ds, gates=gates, results=results)


def _results(folder: Path, date: str) -> list[dict[str, Any]]:
    """One row for each expectation of a stage, those that do not hold first, from what Great Expectations keeps."""
    rows = []
    for path in sorted(folder.glob(f"*/{date}/*/*.json")):
        for outcome in json.loads(path.read_text())["results"]:
            config, result = outcome["expectation_config"], outcome.get("result") or {}
            rows.append(
                {
                    "table": path.relative_to(folder).parts[0],
                    "column": config["kwargs"].get("column"),
                    "says": (config.get("meta") or {}).get("says") or config["type"],
                    "severity": config.get("severity") or "critical",
                    "observed": _observed(result),
                    "holds": outcome.get("success") is True,
                }
            )
    return sorted(rows, key=lambda row: row["holds"])


def _observed(result: Mapping[str, Any]) -> str:
    """Short; a table that passed was judged without details."""
    if "unexpected_count" in result:
        return f"{result['unexpected_count']:,} of {result.get('element_count') or 0:,} rows"
    value = result.get("observed_value")
    return f"{value:,.6g}" if isinstance(value, int | float) else "" if value is None else str(value)[:80]
