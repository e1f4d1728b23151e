"""Publishes the version with the alias `champion` as the serving bundle if it passes the check, else puts the alias back.

Anybody who reaches MLflow can move the alias, and such a move is honoured. But the version must have a gate report that says it
passed and that nobody changed.
"""

import json
import logging
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from esans_core.serving.bundle_files import BUNDLE
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.registry.actions import Action
from jobs.registry.champion import (
    PROMOTED_BY,
    PROMOTION_REASON,
    lost_words,
    moved_in_registry,
    now,
    put_back,
    put_in_force,
    tag_version,
    withdrawal_of,
)
from jobs.registry.decisions import UNKNOWN, held_back
from jobs.registry.gate_report import GateReport, check_gate_report, checked_copy
from jobs.registry.signing import require_key
from jobs.registry.version_records import said
from jobs.registry.versions import CHAMPION, aliased_version, knows_bundle_in_force, version_of
from jobs.serving.store import ServingStore, bundle_name
from jobs.serving.verified import BUNDLE_DIGEST, IN_MODEL

log = logging.getLogger(__name__)

REFUSED_AT, REFUSED_REASON = "esans.refused_at", "esans.refused_reason"


def publish_champion(action: Action) -> dict[str, object]:
    """Put the champion's bundle in force. If it is in force already, nothing is written.

    Raises:
        DataError: the version that the alias named was not checked or was changed. The alias then goes back to the version of
            the bundle in force, or is removed if that version does not pass the check either. The bundle stays.
    """
    settings = action.settings
    store, champion = ServingStore.of(settings), aliased_version(settings)
    current = store.current()
    served = version_of(settings, current) if knows_bundle_in_force(settings) else None
    if champion is None:
        # A bundle without a number: a person went back to one whose version is gone.
        if current is not None and store.history()[-1]["version"] and knows_bundle_in_force(settings):
            raise _alias_gone(settings, served, current)
        stays = f"bundle {current} stays in force" if current else "there is none in force either"
        log.warning("no version carries the alias")
        return {
            "message": f"no version carries the alias, so nothing is published; {stays}.",
            "bundle": current,
            "changed": False,
        }
    number = str(champion.version)
    if served is not None and served.version == champion.version:
        return {"message": f"bundle {current} is in force already.", "bundle": current, "version": number, "changed": False}
    require_key(settings)  # without a key no version can be checked, and that is not the fault of this version
    try:
        name, report = add_bundle(store, settings, champion)
    except DataError as error:
        raise _refused(settings, champion, served, current, error) from error
    if moved_in_registry(settings, champion):
        stated = {"by": UNKNOWN, "reason": "the alias was moved in the registry"}
        put_in_force(settings, champion, incumbent=report.incumbent_version, previous=served, **stated)
        champion = aliased_version(settings) or champion
    decided = f"{champion.tags.get(PROMOTION_REASON, '')} (promoted by {champion.tags.get(PROMOTED_BY, 'unknown')})"
    store.activate(name, by=action.by, reason=action.reason or decided, version=number, registry=settings.registry_kind)
    return {"message": f"bundle {name} is in force.", "bundle": name, "before": current, "version": number, "changed": True}


def add_bundle(store: ServingStore, settings: PipelineSettings, version: ModelVersion) -> tuple[str, GateReport]:
    """Copy a version's bundle into the store; returns its name there, and the gate report that allows it.

    Raises:
        DataError: the version did not pass its gates or was changed, or a person took it back or rejected it.
    """
    with checked_copy(settings, version) as (report, copy):
        _check_bundle(copy / IN_MODEL, version, report)
        _check_decisions(settings, version, report)
        name = bundle_name(report.date, report.version, report.bundle_digest)
        store.add(copy / IN_MODEL, name)
        return name, report


def _check_bundle(folder: Path, version: ModelVersion, report: GateReport) -> None:
    """Raise `DataError` unless the version's tag and its bundle name the bundle that was judged; `add` hashes the files."""
    there = folder / BUNDLE
    if not (report.bundle_digest and there.is_file()):
        problem = "carries no serving bundle."
    elif {version.tags.get(BUNDLE_DIGEST), json.loads(there.read_text())["digest"]} != {report.bundle_digest}:
        problem = "its bundle is not the one that was judged."
    else:
        return
    remedy = "delete this version in the registry, and run its date again from the step register."
    raise DataError(problem, file=said(version), remedy=remedy)


def _check_decisions(settings: PipelineSettings, version: ModelVersion, report: GateReport) -> None:
    """Raise `DataError` if a person took the version back or rejected it. A move of the alias names no person and no reason."""
    held = held_back(settings, report.weights) or withdrawal_of(version)
    if held is not None and held.by != UNKNOWN:
        raise DataError(f"{held}.", file=said(version), remedy="promote it by hand, with a reason, if it may serve again.")


def _alias_gone(settings: PipelineSettings, served: ModelVersion | None, current: str) -> DataError:
    """Put the alias back to the version of the bundle in force if it may be there, and return the error to raise."""
    happened = f"no version carried the alias '{CHAMPION}', and nobody has taken bundle {current} out of force."
    remedy = "to take a champion out of force, promote another version or roll back, by hand."
    if served is None:
        happened = f"{lost_words(settings, current)}, and no version carries the alias '{CHAMPION}'."
        remedy = "if somebody renamed the model, rename it back; else promote another version by hand."
        return DataError(
            f"{happened} Nothing is promoted until then, and the bundle stays.", file=settings.tracking_uri, remedy=remedy
        )
    try:
        check_gate_report(settings, served)
    except DataError as error:
        return DataError(f"{happened} It cannot take the alias back: {error.problem}", file=said(served), remedy=error.remedy)
    put_back(settings, served)
    return DataError(
        f"{happened} So the alias is at version {served.version} again, and the bundle stays.", file=said(served), remedy=remedy
    )


def _refused(
    settings: PipelineSettings, champion: ModelVersion, served: ModelVersion | None, current: str | None, error: DataError
) -> DataError:
    """Put the alias back where it may be, and return the error to raise."""
    tag_version(settings, champion, {REFUSED_AT: now(), REFUSED_REASON: str(error)})
    try:
        if served is not None:
            check_gate_report(settings, served)
    except DataError as other:
        log.error("version %s cannot take the alias back: %s", served and served.version, other)
        served = None
    put_back(settings, served)
    alias = "the alias was removed" if served is None else f"the alias is at version {served.version} again"
    stays = f"bundle {current} stays in force" if current else "nothing is in force"
    return DataError(
        f"was refused as champion: {error.problem} So {alias}, and {stays}.",
        file=said(champion),
        remedy=error.remedy,
    )
