"""What a person does with a proposal: agrees to it, or takes back what was agreed to."""

import datetime as dt
import json
from typing import Any

from pydantic import ValidationError

from jobs.base.agreed import Agreement, agreed_file, read_agreement
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings, explain, nest
from jobs.registry.actions import Action
from jobs.tuning.proposal import FILE, tuning_folder

_HOW = frozenset({"training.device", "training.processes"})  # where training runs, not what it comes to


def adopt_settings(action: Action) -> dict[str, Any]:
    """Put the proposal of a date in force, by writing it to the home's file of agreed settings, or take the file back.

    If it is so already, nothing changes. Options: `date` of the search; `proposal`, the name of the proposal that was looked
    at, if another one must be refused; or `revoke`.

    Raises:
        DataError: there is no such proposal, it proposes nothing, today's settings are no longer those of the search, or the
            settings do not fit together.
    """
    settings, date = action.settings, action.options.get("date")
    if (date is None) == (action.options.get("revoke") is None):
        raise DataError("either --date or --revoke is needed.", remedy="give one of them.")
    if date is None:
        return _revoke(action)
    found = _proposal(settings, date, action.options.get("proposal"))
    before = read_agreement(settings.home, PipelineSettings)
    if before is not None and before.proposal == found["proposal"]:
        return {"message": f"proposal {found['proposal']} is in force already.", "changed": False, "settings": before.settings}
    _check_base(settings, found)
    agreed = (before.settings if before else {}) | {name: value for name, (_, value) in found["changes"].items()}
    agreement = Agreement(
        settings=agreed,
        by=action.by,
        at=dt.datetime.now(dt.UTC).replace(microsecond=0),
        reason=action.reason,
        date=found["date"],
        proposal=found["proposal"],
        trial=found["best"]["trial"],
        trials=len(found["trials"]),
        metric=found["metric"],
        before=found["today"]["recall"],
        found=found["best"]["recall"],
    )
    _check_result(settings, agreement)
    write_json(agreed_file(settings.home), agreement.model_dump(mode="json"))
    shown = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in found["changes"].items())
    return {"message": f"in force from the next run on: {shown}.", "changed": True, "settings": agreed}


def _revoke(action: Action) -> dict[str, Any]:
    """Remove the file, so that the settings of environment and defaults hold again."""
    settings = action.settings
    before = read_agreement(settings.home, PipelineSettings)
    if before is None:
        return {"message": "nothing was agreed to, so nothing changes.", "changed": False}
    action.note(revoked=before.model_dump(mode="json"))
    agreed_file(settings.home).unlink()
    names = ", ".join(f"{name} {value}" for name, value in before.settings.items())
    message = f"no longer in force, though {before.by} had agreed on {before.at:%Y-%m-%d}: {names}."
    return {"message": message, "changed": True, "revoked": before.model_dump(mode="json")}


def _proposal(settings: PipelineSettings, date: str, wanted: str | None) -> dict[str, Any]:
    try:
        on = dt.date.fromisoformat(date)
    except ValueError as error:
        raise DataError(f"--date {date[:20]!r} is no date.", remedy="write it as YYYY-MM-DD.") from error
    file = tuning_folder(settings.model_copy(update={"date": on})) / FILE
    again = f"search again: python -m jobs.tuning --home {settings.home} --date {on}"
    if not file.exists():
        raise DataError("there is no proposal for this date.", file=file, remedy=f"{again}.")
    found: dict[str, Any] = json.loads(file.read_text())
    if wanted is not None and wanted != found["proposal"]:
        raise DataError(
            f"holds proposal {found['proposal']}, and not {wanted[:20]}, which was looked at.",
            file=file,
            remedy="look at the new one, and agree to that.",
        )
    if not found["changes"]:
        raise DataError(
            f"proposes nothing: {found['headline']}", file=file, remedy=f"there is nothing to agree to; or {again}."
        )
    return found


def _check_base(settings: PipelineSettings, found: dict[str, Any]) -> None:
    """Refuse a proposal that was compared with other settings than those that hold today."""
    flat = settings.flat()
    other = {name: value for name, value in found["base"].items() if flat.get(name) != value and name not in _HOW}
    if other:
        said = ", ".join(f"{name} was {value} and is {flat.get(name)}" for name, value in other.items())
        raise DataError(
            f"today's settings are no longer those that the search started from: {said}.",
            file=tuning_folder(settings) / FILE,
            remedy="search again, with the same environment as the daily run and without flags for these settings.",
        )


def _check_result(settings: PipelineSettings, agreement: Agreement) -> None:
    """Refuse settings that do not fit together. Those of the environment are never searched, so none goes before these."""
    try:
        PipelineSettings(home=settings.home, **nest(agreement.settings))
    except ValidationError as error:
        raise DataError(f"the settings do not fit together: {explain(error)}.", remedy="search again.") from error
