"""What a person may choose from when they promote or roll back: the versions and bundles there are, each in one line of text.

A line begins with the name that the commands take, and a blank. The lines are made from files of the home alone, because
Airflow's forms read them every few minutes. What a person took back or rejected is left out; its number can still be typed.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from jobs.base.settings import PipelineSettings
from jobs.pages.words import minute
from jobs.serving.store import ServingStore, bundle_parts

_BETWEEN = " | "
_LINES = 200


def version_choices(settings: PipelineSettings) -> list[str]:
    """Versions, latest first: number, day, recall, and how it stands: in force, or the verdict on it.

    Args:
        settings: for its home; its date does not matter.
    """
    in_force = ServingStore.of(settings).current() or ""
    found = sorted(_judged(settings), key=lambda verdict: int(verdict["version"]), reverse=True)
    lines: list[str] = []
    for each in found:
        if _held_back(settings, each):
            continue
        serves = in_force.startswith(f"{each['date']}-v{each['version']}-")
        parts = [each["version"], each["date"], *_recall(each), "in force now" if serves else each["verdict"].replace("_", " ")]
        lines.append(_BETWEEN.join(parts))
    return lines[:_LINES]


def bundle_choices(settings: PipelineSettings) -> list[str]:
    """Bundles that are in the store and not in force, the last one in force first: name, recall and until when it served.

    Args:
        settings: for its serving store and its home; its date does not matter.
    """
    store = ServingStore.of(settings)
    verdicts = {(verdict["date"], verdict["version"]): verdict for verdict in _judged(settings)}
    until = {before["name"]: after["at"] for before, after in pairwise(store.history())}
    lines, current = [], store.current()
    for name in sorted(store.names(), key=lambda name: until.get(name, ""), reverse=True):
        if name != current:
            date, version, _ = bundle_parts(name)
            served = f"in force until {minute(until[name])} UTC" if name in until else "never in force"
            lines.append(_BETWEEN.join([name, *_recall(verdicts.get((date, version), {})), served]))
    return lines[:_LINES]


def _judged(settings: PipelineSettings) -> Iterator[dict[str, Any]]:
    """The verdict on each version that is registered, with its day."""
    kept = [json.loads(path.read_text()) for path in versions_folder(settings).glob("*.json")]
    yield from kept
    known = {verdict["version"] for verdict in kept}
    for path in (settings.home / "runs").glob("????-??-??/verdict.json"):
        verdict = json.loads(path.read_text())
        if str(verdict.get("version") or "").isdecimal() and str(verdict["version"]) not in known:  # by an earlier release
            yield verdict | {"date": path.parent.name, "version": str(verdict["version"])}


def versions_folder(settings: PipelineSettings) -> Path:
    """Where the home keeps the verdict on each version; `make run` and `make up` have registries of their own."""
    return settings.home / "versions" / settings.registry_kind


def _held_back(settings: PipelineSettings, verdict: dict[str, Any]) -> bool:
    """Whether a person took back or rejected the version's weights (`jobs.registry.decisions`)."""
    path = settings.home / "decisions" / f"{verdict['weights']}.json" if verdict.get("weights") else None
    return path is not None and path.exists() and json.loads(path.read_text())["decision"] != "allowed"


def _recall(verdict: dict[str, Any]) -> list[str]:
    """Recall of the version on its own day; empty if no verdict tells it."""
    for check in verdict.get("checks", []):
        measure, _, k = check["name"].partition("_")
        if measure == "recall" and k.isdecimal():
            return [f"Recall@{k} {check['value']:.3f}"]
    return []
