"""Tries a version on a share of the users, while all others get the bundle in force. No alias moves."""

from typing import Any

from jobs.base.errors import DataError
from jobs.registry.actions import Action
from jobs.registry.publish_champion import add_bundle
from jobs.registry.versions import required_version
from jobs.serving.store import ServingStore

_MOST = 0.5  # with more, the version should be promoted


def canary(action: Action) -> dict[str, Any]:
    """Put the version's bundle beside the one in force, for a share of the users; without a version, end what there is.

    It also ends by itself, as soon as another bundle is in force.

    Raises:
        DataError: the share is none, no bundle is in force yet, there is no such version, it did not pass its gates or was
            changed, or a person took it back or rejected it.
    """
    settings, number = action.settings, action.options["version"]
    store = ServingStore.of(settings)
    before = store.canary()
    if number is None:
        if action.options["share"] is not None:
            raise DataError("--share was given without --version.", remedy="name the version that the share shall get.")
        store.end_canary()
        ended = f"the canary {before['name']} has ended." if before else "there was no canary."
        return {"message": f"{ended} All users get the bundle in force.", "bundle": None, "share": 0.0}
    share = _share(action.options["share"])
    if store.current() is None:
        raise DataError(
            "no bundle is in force.", file=settings.serving_root, remedy="promote a version first, which all users then get."
        )
    name, _ = add_bundle(store, settings, required_version(settings, number))
    store.start_canary(name, share, by=action.by, reason=action.reason, version=number)
    message = f"{share:.1%} of the users get bundle {name}, all others {store.current()}."
    return {"message": message, "bundle": name, "version": number, "share": share}


def _share(text: str | None) -> float:
    try:
        share = float(text or "")
    except ValueError:
        share = 0.0
    if not 0 < share <= _MOST:
        raise DataError(
            f"--share must be a number above 0 and at most {_MOST}, got {str(text)[:20]!r}.", remedy="give a share such as 0.1."
        )
    return share
