"""The state of things, for the start page: what is in force and by whose decision, what waits, and what was decided last."""

import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.base.settings import PipelineSettings
from jobs.base.verdicts import AWAITING_REVIEW, PROMOTED
from jobs.pages.addresses import airflow_run, data_docs, proposal_page, review_page, run_of
from jobs.pages.words import minute, verdict_text
from jobs.registry.mlflow_pages import VERSION, mlflow_page
from jobs.serving.store import ServingStore

_PROMOTED_BY = re.compile(r"\(promoted by (.*)\)$")
_PIPELINE = "pipeline"
_GATE = "the promotion gate"


@dataclass(frozen=True)
class Since:
    """What has become of the version of a date since its verdict.

    Attributes:
        text: one or two sentences.
        tone: how a page colours it, as `jobs.pages.words.verdict_tone`; empty if the verdict's own colour stays.
        serves: whether the version is in force.
    """

    text: str
    tone: str
    serves: bool


def actions_of(home: Path) -> list[dict[str, Any]]:
    """What was done to champion, bundle and settings besides the daily runs, latest first; `action` is the command."""
    found = [_read(path) | {"action": path.stem} for path in (home / "actions").glob("*/*.json")]
    return sorted(found, key=lambda record: str(record.get("started_at")), reverse=True)


def in_force(history: Sequence[Mapping[str, Any]], actions: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """The bundle in force: name, version, since, decided (by whom, in words) and reason; None before the first one.

    Args:
        history: of the serving store, oldest first.
        actions: as `actions_of` gives them.
    """
    if not history:
        return None
    entry = history[-1]
    promoted = _PROMOTED_BY.search(entry.get("reason", ""))
    if _action_behind(entry, actions) == "rollback":
        decided = f"{entry['by']}, by a rollback"
    elif promoted and promoted[1] == _PIPELINE:
        decided = _GATE
    else:
        decided = f"{promoted[1] if promoted else entry['by']}, a person"
    reason = _PROMOTED_BY.sub("", entry.get("reason", "")).strip()
    return {name: str(entry.get(name, "")) for name in ("name", "version")} | {
        "since": minute(entry["at"]),
        "decided": decided,
        "reason": reason,
    }


def since_verdict(settings: PipelineSettings, date: str, verdict: Mapping[str, Any]) -> Since | None:
    """What has become of the version of a date; None if the verdict says all there is to say.

    Args:
        settings: for its home and its serving store.
        date: the date, as YYYY-MM-DD.
        verdict: on that version.
    """
    version, history = str(verdict.get("version") or ""), ServingStore.of(settings).history()
    if not version:
        return None
    mine = [place for place, entry in enumerate(history) if str(entry["name"]).startswith(f"{date}-v{version}-")]
    promoted = verdict.get("verdict") == PROMOTED
    if mine and mine[-1] == len(history) - 1:
        found = in_force(history, actions_of(settings.home))
        if found is None or (promoted and found["decided"] == _GATE):
            return None
        text = f"Version {version} is in force since {found['since']} UTC. Decided by {found['decided']}"
        return Since(f"{text}{_because(found['reason'])}.", "" if promoted else "warn", serves=True)
    serves = f" Version {history[-1]['version'] or 'without a number'} is in force." if history else " No version is in force."
    taken = _read(settings.home / "decisions" / f"{verdict['weights']}.json") if verdict.get("weights") else {}
    if taken.get("decision") == "withdrawn":
        text = f"Version {version} was taken back on {minute(taken['at'])} UTC by {taken['by']}{_because(taken['reason'])}."
        return Since(text + serves, "bad", serves=False)
    if mine:
        return Since(
            f"Version {version} was replaced on {minute(history[mine[-1] + 1]['at'])} UTC.{serves}", "plain", serves=False
        )
    return None


def _because(reason: str) -> str:
    return f": {reason.strip().rstrip('.')}" if reason.strip() else ""


def model_in_force(home: Path) -> dict[str, str] | None:
    """The bundle in force of a home, as `in_force` tells it."""
    return in_force(ServingStore(home / "serving").history(), actions_of(home))


def verdict_of_run(home: Path, run: str) -> str:
    """The verdict of a run of Airflow, or the step at which it failed, in one line.

    Args:
        home: the home's folder.
        run: name of the run.
    """
    for folder in sorted((home / "runs").glob("????-??-??"), reverse=True):
        if run_of(folder) == run:
            return trouble(folder) or verdict_text(_read(folder / "verdict.json"))
    return verdict_text(None)


def links_of(run_dir: Path) -> dict[str, str]:
    """The pages about a date elsewhere, by what the link says; those that are not known are left out.

    Args:
        run_dir: run folder of the date.
    """
    found = {"Run in Airflow": airflow_run(run_dir), "Version in MLflow": mlflow_page(run_dir, VERSION)}
    found["Data Docs"] = data_docs(run_dir.parent.parent)
    return {said: address for said, address in found.items() if address}


def waiting(home: Path) -> list[dict[str, str]]:
    """What waits for a person, latest first: `what`, and the `address` at which to answer ('' if it is not known)."""
    found = []
    for folder in sorted((home / "runs").glob("????-??-??"), reverse=True):
        verdict = _read(folder / "verdict.json")
        if verdict.get("verdict") == AWAITING_REVIEW and not (folder / "review.json").exists():
            found.append({"what": f"Version {verdict.get('version')} of {folder.name} waits", "address": review_page(folder)})
    for proposal in sorted((home / "tuning").glob("????-??-??/proposal.json"), reverse=True):
        answer = proposal.with_name("review.json")
        answered = answer.exists() and answer.stat().st_mtime >= proposal.stat().st_mtime  # an older one was about another
        if _read(proposal).get("changes") and not answered:
            address = proposal_page(proposal.parent)
            found.append({"what": f"A proposal of settings, from {proposal.parent.name}, waits", "address": address})
    return found


def decided_at(run_dir: Path) -> float:
    """When the verdict of a date was written or last changed, in seconds since 1970; 0 without a verdict."""
    path = run_dir / "verdict.json"
    return path.stat().st_mtime if path.exists() else 0.0


def trouble(run_dir: Path) -> str:
    """The step at which a date failed, and its message; empty if no step did."""
    records = [_read(path) for path in sorted((run_dir / "steps").glob("*.json"))]
    failed = [f"{record['step']} {record['state']}: {record['message']}" for record in records if _ended_badly(record)]
    return "; ".join(failed)


def _action_behind(entry: Mapping[str, Any], actions: Sequence[Mapping[str, Any]]) -> str:
    """The command of the latest action that named the bundle of an entry and began before it."""
    at = dt.datetime.fromisoformat(entry["at"]).replace(tzinfo=None)
    for record in actions:
        began = record.get("started_at")
        named = (record.get("summary") or {}).get("bundle") == entry["name"]
        if named and began and dt.datetime.fromisoformat(began).replace(tzinfo=None) <= at:
            return str(record["action"])
    return ""


def _ended_badly(record: Mapping[str, Any]) -> bool:
    return record.get("state") in ("failed", "killed") and bool(record.get("step"))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}
