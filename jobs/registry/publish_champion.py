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
from jobs.registry.champion import PROMOTED_BY, PROMOTION_REASON, moved_in_registry, now, put_back, put_in_force, tag_version
from jobs.registry.gate_report import GateReport, check_gate_report, checked_copy
from jobs.registry.signing import require_key
from jobs.registry.version_records import said
from jobs.registry.versions import champion_version, numbered_version
from jobs.serving.store import ServingStore
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
    store, champion = ServingStore.of(settings), champion_version(settings)
    current = store.current()
    if champion is None:
        stays = f"bundle {current} stays in force" if current else "there is none in force either"
        log.warning("no version carries the alias")
        return {
            "message": f"no version carries the alias, so nothing is published; {stays}.",
            "bundle": current,
            "changed": False,
        }
    served, number = version_of(settings, current), str(champion.version)
    if current is not None and version_number(current) == number:
        return {"message": f"bundle {current} is in force already.", "bundle": current, "version": number, "changed": False}
    require_key(settings)  # without a key no version can be checked, and that is not the fault of this version
    try:
        with checked_copy(settings, champion) as (report, copy):
            _check_bundle(copy / IN_MODEL, champion, report)
            name = f"{report.date}-v{report.version}-{report.bundle_digest[:8]}"
            store.add(copy / IN_MODEL, name)
    except DataError as error:
        raise _refused(settings, champion, served, current, error) from error
    if moved_in_registry(settings, champion):
        stated = {"by": "unknown (moved in the registry)", "reason": "the alias was moved in the registry"}
        put_in_force(settings, champion, incumbent=report.incumbent_version, previous=served, **stated)
        champion = champion_version(settings) or champion
    decided = f"{champion.tags.get(PROMOTION_REASON, '')} (promoted by {champion.tags.get(PROMOTED_BY, 'unknown')})"
    store.activate(name, by=action.by, reason=action.reason or decided, version=number)
    return {"message": f"bundle {name} is in force.", "bundle": name, "before": current, "version": number, "changed": True}


def version_of(settings: PipelineSettings, bundle: str | None) -> ModelVersion | None:
    """The version that a bundle was made of, or None if the registry no longer has it."""
    return None if bundle is None else numbered_version(settings, version_number(bundle))


def version_number(bundle: str) -> str:
    """Number of the version that a bundle was made of.

    >>> version_number("2026-01-28-v3-0123abcd")
    '3'
    """
    return bundle.rsplit("-", 2)[1].removeprefix("v")


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
