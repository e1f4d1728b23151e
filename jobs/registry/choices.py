"""What a person may choose from when they promote or roll back: the versions and bundles there are, each in one line of text.

A line begins with the name that the commands take, and a blank. The lines are made from files of the home alone, because
Airflow's forms read them every few minutes. The versions are the latest of each day; the number of another can be typed.
"""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from jobs.base.settings import PipelineSettings
from jobs.pages.words import minute
from jobs.serving.store import ServingStore, bundle_parts

_BETWEEN = " | "
_LINES = 30


def version_choices(settings: PipelineSettings) -> list[str]:
    """Versions, latest first: number, day, recall, and verdict of that day. The one in force is marked.

    Args:
        settings: for its home; its date does not matter.
    """
    in_force = ServingStore.of(settings).current() or ""
    found = sorted(_judged(settings), key=lambda verdict: int(verdict["version"]), reverse=True)[:_LINES]
    lines = []
    for each in found:
        serves = in_force.startswith(f"{each['date']}-v{each['version']}-")
        parts = [each["version"], each["date"], *_recall(each), "in force now" if serves else each["verdict"].replace("_", " ")]
        lines.append(_BETWEEN.join(parts))
    return lines


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
    """The verdicts of all days on a version that is registered, each with its day."""
    for path in (settings.home / "runs").glob("????-??-??/verdict.json"):
        verdict = json.loads(path.read_text())
        if str(verdict.get("version") or "").isdecimal():
            yield verdict | {"date": path.parent.name, "version": str(verdict["version"])}


def _recall(verdict: dict[str, Any]) -> list[str]:
    """Recall of the version on its own day; empty if no verdict tells it."""
    for check in verdict.get("checks", []):
        measure, _, k = check["name"].partition("_")
        if measure == "recall" and k.isdecimal():
            return [f"Recall@{k} {check['value']:.3f}"]
    return []
