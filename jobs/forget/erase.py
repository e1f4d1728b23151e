"""Forgets one user: from the first lock to the record of what was done.

First the hash of the id is kept, so that an ingest that comes later leaves the user out. Then tables, files and databases are
cleaned. Every part can be done again, so a request that was cut short is finished by asking again.
"""

import datetime as dt
import fcntl
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.base.errors import DataError
from jobs.base.forgotten import ForgottenUsers, hash_of, remember
from jobs.base.locks import HomeBusyError, nobody_at_work
from jobs.base.places import uri_of
from jobs.base.sessions import SESSION, session_user
from jobs.base.settings import PipelineSettings
from jobs.forget.files import FOLDERS, clean_files, remove_caches
from jobs.forget.models import models_left
from jobs.forget.record import Record
from jobs.forget.registry import clean_registry, has_registry
from jobs.forget.source import source_note
from jobs.forget.tables import Done, LakeEraser, knows
from jobs.forget.texts import GONE, UserText
from jobs.lake.tables import Lake
from jobs.registry.champion import exclusive

log = logging.getLogger(__name__)

_LONGEST = 1000  # characters of an id
_STACK = "ESANS_LOCAL_STACK"  # every process of a local stack has the stack's home under this name


@dataclass(frozen=True)
class Request:
    """Somebody asks that a user be forgotten.

    Attributes:
        user_id: id of the user, as the source writes it.
        by: who carries it out.
        reason: why, such as the number of a ticket; it must not name the user.
    """

    user_id: str
    by: str
    reason: str = ""

    def check(self) -> None:
        """Raise `DataError` if the id cannot be one, or if the reason would name the user in the record."""
        problem = None
        if not self.user_id.strip():
            problem = "the id is blank."
        elif len(self.user_id) > _LONGEST:
            problem = f"the id has {len(self.user_id)} characters; at most {_LONGEST} are expected."
        else:
            try:
                self.user_id.encode()
            except UnicodeEncodeError:
                problem = "the id is no text in UTF-8."
        if problem:
            raise DataError(problem, remedy="give the id as the column user_id of the source has it.")
        text = UserText(self.user_id)
        if text.distinctive and GONE in text.without_text(f"{self.reason}\n{self.by}"):
            raise DataError("the reason, or the name of who asks, holds the id.", remedy="name a ticket, not the user.")


def forget(settings: PipelineSettings, request: Request) -> dict[str, Any]:
    """Remove a user from all that the home keeps.

    Returns:
        `message`, and what the record says, without the hash.

    Raises:
        DataError: the request cannot be meant.
        HomeBusyError: a run is at work in the home.
    """
    request.check()
    _refuse_during_a_run(settings.home)
    with nobody_at_work(settings.home), exclusive(settings):
        return _forget(settings, request)


def _forget(settings: PipelineSettings, given: Request) -> dict[str, Any]:
    lake = Lake.of(settings)
    request, notes = _meant(settings, lake, given)
    hashed, text = hash_of(settings, request.user_id), UserText(request.user_id)
    before = ForgottenUsers.of(settings).hold(request.user_id)
    remember(settings, hashed)
    record = Record.begin(settings, hashed, request.by, request.reason)
    eraser = LakeEraser(lake, request.user_id, record.name)
    for date in eraser.dates():

        def noted(table: str, done: Done, day: dt.date = date) -> None:
            record.table(day.isoformat(), table, done.rows, withdrawn=done.withdrawn)
            log.info("%s of %s: %s", table, day, "removed as a whole" if done.withdrawn else f"{done.rows} rows")

        eraser.erase(date, noted)
    dates = sorted(record.content["tables"])
    remove_caches(settings, dates, record)
    changed, naming = clean_registry(settings, text) if has_registry(settings) else (0, None)
    record.files("texts_in_mlflow", changed)
    left = clean_files(settings, text, request.user_id, record)
    models = models_left(settings, [dt.date.fromisoformat(date) for date in dates], dt.datetime.now(dt.UTC).date())
    record.finish(models=models, notes=notes + _notes(settings, request, text, left, naming))
    found = {name: value for name, value in record.content.items() if name != "user"}
    return found | {"record": str(record.path), "message": _message(record, models, before=before)}


def _meant(settings: PipelineSettings, lake: Lake, request: Request) -> tuple[Request, list[str]]:
    """The request with the id that the lake has, and what to say of it.

    A person of whom only a session is known stands in the lake as `session X`. The source writes X, which may be the id of a
    user as well: then it means the user.
    """
    session = session_user(request.user_id)
    if not (knows(lake, session) or ForgottenUsers.of(settings).hold(session)):
        return request, []
    if knows(lake, request.user_id) or ForgottenUsers.of(settings).hold(request.user_id):
        told = "There is a session of this id too, of which no user is known. It stays, because it may be somebody else's. "
        return request, [f'{told}To forget it as well, give the id with "{SESSION}" in front.']
    return replace(request, user_id=session), ["The id is that of a session, of which no user is known. It was forgotten."]


def _notes(
    settings: PipelineSettings, request: Request, text: UserText, left: list[str], naming: list[str] | None
) -> list[str]:
    """What a person has to know besides the counts."""
    notes = [source_note(settings, request.user_id)]
    if not text.distinctive:
        notes.append(
            "The id may as well be a plain word or a number, so in texts it was removed only where it stands as a user's id."
        )
    if left:
        notes.append(
            f"The id still stands in {', '.join(left)}. If a run of Airflow is behind it, it goes with that run's conf."
        )
    if naming is None:
        notes.append("There is no MLflow store in the home, and no other was named, so versions were not looked at.")
    elif naming:
        notes.append(f"Parameters of these MLflow runs hold the id, and only deleting the run removes it: {', '.join(naming)}.")
    if not isinstance(Lake.of(settings).root, Path):
        notes.append(f"Versions of objects that the store {uri_of(Lake.of(settings).root)} keeps by itself are not removed.")
    return notes


def _message(record: Record, models: list[dict[str, Any]], *, before: bool) -> str:
    tables = record.content["tables"]
    if not tables and not record.content["files"].keys() - {FOLDERS}:
        why = (
            "The user was forgotten before."
            if before
            else "Is the id written exactly as the source writes it? It is remembered, so ingest leaves it out from now on."
        )
        return f"nothing was found under this id, so nothing of a user was removed. {why} The record is {record.path}."
    rows = sum(done["rows"] for date in tables.values() for done in date.values())
    serving = {model["name"]: model["out_of_force_from"] for model in models if model["in_force"]}
    said = f"the user is forgotten: {rows} rows in tables of {len(tables)} dates were removed or emptied."
    if serving:
        said += (
            f" A model that was trained with the user's events still serves ({', '.join(serving)}), until the next promotion, "
            f"on {min(serving.values())} at the earliest."
        )
    return f"{said} The record is {record.path}."


def _refuse_during_a_run(home: Path) -> None:
    """Raise `HomeBusyError` while `make run` works in the home. A task of that very run may go on."""
    lock = home / ".lock"
    if os.environ.get(_STACK) == str(home) or not lock.exists():
        return
    with lock.open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeBusyError(f"a run is at work in {home}: wait until it has ended, and try again.") from None
