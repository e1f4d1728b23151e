"""Goes back to an earlier serving bundle in one step: it changes the bundle and the alias, and records who did it and why."""

import datetime as dt
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.registry.actions import Action
from jobs.registry.champion import now, put_back, put_in_force, take_back, withdrawal_of
from jobs.registry.decisions import Standing, decide, held_back
from jobs.registry.versions import (
    REPLACED,
    aliased_version,
    champion_version,
    registered_model,
    version_number,
    version_of,
)
from jobs.serving.store import ServingStore
from jobs.serving.verified import verify


def rollback(action: Action) -> dict[str, object]:
    """Put a bundle of the store in force again, and move the alias with it, so that no later publication undoes this.

    Without `to` it is the last other bundle that was in force and that nobody has taken back, rejected or deleted since. Every
    bundle in the store has passed the check, so only its files are checked again. If the registry no longer has its version,
    the alias is removed.

    Raises:
        DataError: there is no such bundle, or its files are not those that were published.
    """
    settings = action.settings
    store, passed_over = ServingStore.of(settings), dict[str, str]()
    current, names = store.current(), store.names()
    # A repeat of this action goes to the same bundle as the first attempt, and no further back.
    target = action.options["to"] or action.facts.get("bundle")
    if target is None:
        target, passed_over = _before(settings, store, current)
    said = "".join(f" {name} was passed over: {why}." for name, why in passed_over.items())
    if target is None or target not in names:
        raise DataError(
            f"there is no bundle {target[:100]!r}." if target else f"there is no earlier bundle to go back to.{said}",
            file=settings.serving_root,
            remedy=f"name one of {', '.join(names)}." if names else "publish a champion first.",
        )
    about = verify(store.path(target))["about"]
    action.note(bundle=target)
    version = _move_alias(action, about, version_of(settings, target), version_of(settings, current), target)
    if current is not None and current != target:
        _keep_decision(action, about, store.about(current), target, current)
        # The bundle comes after the alias. If this is interrupted here, the next publication puts the bundle of the alias in
        # force.
        number = "" if version is None else version_number(target)
        store.activate(target, by=action.by, reason=action.reason, version=number, registry=settings.registry_kind)
    message = _message(settings, target, current, version) + said
    return {"message": message, "bundle": target, "before": current, "passed_over": list(passed_over)}


def _before(settings: PipelineSettings, store: ServingStore, current: str | None) -> tuple[str | None, dict[str, str]]:
    """The last other bundle in force that may serve again, and why later ones were passed over, by name."""
    passed_over: dict[str, str] = {}
    for entry in reversed(store.history()):
        name = entry["name"]
        if name != current and name not in passed_over:
            why = _against(settings, store, name)
            if why is None:
                return name, passed_over
            passed_over[name] = why
    return None, passed_over


def _against(settings: PipelineSettings, store: ServingStore, name: str) -> str | None:
    """Why a bundle must not come back unless a person names it; None if nothing is against it."""
    if name not in store.names():
        return "it is no longer in the store"
    held, version = held_back(settings, store.about(name).get("weights", "")), version_of(settings, name)
    if held is None and version is not None:
        held = withdrawal_of(version)
    if held is not None:
        return str(held)
    if version is None and registered_model(settings) is not None:
        return f"version {version_number(name)} of {settings.registry.model_name} was deleted in the registry"
    return None


def _move_alias(
    action: Action, about: dict[str, Any], version: ModelVersion | None, served: ModelVersion | None, target: str
) -> ModelVersion | None:
    """Move the alias to the version of the target, or remove it if that version is gone. Returns the version."""
    settings, aliased = action.settings, aliased_version(action.settings)
    if version is None:
        if (champion := champion_version(settings)) is not None:
            take_back(settings, champion, since=_date(about), by=action.by, reason=action.reason)
        if aliased is not None:
            put_back(settings, None)
    elif aliased is None or aliased.version != version.version:
        put_in_force(
            settings,
            version,
            incumbent=version.tags.get(REPLACED, ""),
            by=action.by,
            reason=f"rolled back to {target}: {action.reason}",
            previous=served or aliased,
        )
    return version


def _keep_decision(action: Action, target: dict[str, Any], current: dict[str, Any], to: str, away: str) -> None:
    """Keep the decision for the weights of both bundles, also where the registry no longer has their versions.

    A bundle of an earlier date than the target is left alone, as it is when somebody promotes a later version.
    """
    about = {"by": action.by, "at": now(), "reason": action.reason}
    if _date(current) >= _date(target):
        decide(
            action.settings, current.get("weights", ""), Standing(decision="withdrawn", version=version_number(away), **about)
        )
    if held_back(action.settings, target.get("weights", "")) is not None:
        decide(action.settings, target["weights"], Standing(decision="allowed", version=version_number(to), **about))


def _date(about: dict[str, Any]) -> dt.date:
    return dt.date.fromisoformat(about["date"])


def _message(settings: PipelineSettings, bundle: str, before: str | None, version: ModelVersion | None) -> str:
    done = f"bundle {bundle} is in force" + (f" now (before: {before})." if before != bundle else " already.")
    if version is None:
        return f"{done} {settings.registry.model_name} no longer has its version, so no version carries the alias."
    return f"{done} Version {version.version} carries the alias."
