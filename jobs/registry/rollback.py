"""Goes back to an earlier serving bundle in one step: it changes the bundle and the alias, and records who did it and why."""

from mlflow.entities.model_registry import ModelVersion

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import LOGICAL_DATE, RUN_KEY
from jobs.registry.actions import Action
from jobs.registry.champion import put_back, put_in_force
from jobs.registry.publish_champion import version_number, version_of
from jobs.registry.versions import REPLACED, champion_version
from jobs.serving.store import ServingStore
from jobs.serving.verified import verify


def rollback(action: Action) -> dict[str, object]:
    """Put a bundle of the store in force again, and move the alias with it, so that no later publication undoes this.

    Without `to` it is the bundle that came before the one in force. Every bundle in the store has passed the check, so only its
    files are checked again. If the registry no longer has its version, the alias is removed.

    Raises:
        DataError: there is no such bundle, or its files are not those that were published.
    """
    settings = action.settings
    store, champion = ServingStore.of(settings), champion_version(settings)
    current, names = store.current(), store.names()
    # A repeat of this action goes to the same bundle as the first attempt, and no further back.
    target = action.options["to"] or action.facts.get("bundle") or _before(store, current)
    if target is None or target not in names:
        raise DataError(
            f"there is no bundle {target[:100]!r}." if target else "there is no earlier bundle to go back to.",
            file=settings.serving_root,
            remedy=f"take one of {', '.join(names)}." if names else "publish a champion first.",
        )
    about = verify(store.path(target))["about"]
    action.note(bundle=target)
    version = version_of(settings, target)
    if version is None or (version.tags.get(LOGICAL_DATE), version.tags.get(RUN_KEY)) != (about["date"], about["run_key"]):
        version = None
        if champion is not None:
            put_back(settings, None)
    elif champion is None or champion.version != version.version:
        put_in_force(
            settings,
            version,
            incumbent=version.tags.get(REPLACED, ""),
            by=action.by,
            reason=f"rolled back to {target}: {action.reason}",
            previous=version_of(settings, current) or champion,
        )
    # The bundle comes after the alias. If this is interrupted here, the next publication puts the bundle of the alias in force.
    if current != target:
        store.activate(target, by=action.by, reason=action.reason, version=version_number(target))
    return {"message": _message(settings, target, current, version), "bundle": target, "before": current}


def _before(store: ServingStore, current: str | None) -> str | None:
    """The bundle that first came in force right before the current one first did, among those that are still there."""
    order = [name for name in dict.fromkeys(entry["name"] for entry in store.history()) if name in store.names()]
    earlier = order[: order.index(current)] if current in order else []
    return earlier[-1] if earlier else None


def _message(settings: PipelineSettings, bundle: str, before: str | None, version: ModelVersion | None) -> str:
    done = f"bundle {bundle} is in force" + (f" now (before: {before})." if before != bundle else " already.")
    if version is None:
        return f"{done} {settings.registry.model_name} no longer has its version, so no version carries the alias."
    return f"{done} Version {version.version} carries the alias."
