"""Whether the source, as it is now, still holds a user. It is asked only where that is cheap."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import existing_folder, files_below, place
from jobs.base.sessions import session_of
from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.landing.contract import INTERACTIONS, USERS
from jobs.landing.finding import Found, find_table
from jobs.landing.mapping import DataMapping, read_mapping
from jobs.landing.part_reader import landed_ids
from jobs.landing.table_mapping import TableMapping

_CHEAP = 2 * 2**30  # bytes of the tables, which are read once


class _NotLookedAt(Exception):
    """Why the source was not looked at."""


def source_note(settings: PipelineSettings, user_id: str) -> str:
    """Whether the source still holds the user, in a sentence. If it could not be looked at, the sentence says why.

    The source is the one of the latest run, read as its `data.yaml` says. For the embedded shop it is that date's snapshot. A
    home without a run has the source of the settings.
    """
    try:
        held = _where(settings, user_id)
    except (_NotLookedAt, DataError, OSError, ValueError, pa.ArrowException) as error:
        why = str(error) if isinstance(error, _NotLookedAt) else "it cannot be read as its data.yaml says"
        return f"Whether the source still holds the user was not looked at: {why}. The source is its owner's to clean."
    if held:
        return f"The source still holds the user: {held}. It is its owner's to clean; ingest leaves the user out from now on."
    return "The source as it is now does not hold the user."


def _where(settings: PipelineSettings, user_id: str) -> str:
    """The part of the source that holds the user; "" if none does."""
    folder, mapping = _source(settings)
    tables = [(table, found, given) for table in (INTERACTIONS, USERS) for given, found in _found(folder, table, mapping)]
    paths = [part.path for _, found, _ in tables for part in found.parts]
    if None in paths:
        raise _NotLookedAt("a table of it is a query to a database")
    if sum(file.stat().st_size for path in paths if path is not None for file in files_below(path)) > _CHEAP:
        raise _NotLookedAt(f"its tables have more than {_CHEAP // 2**30} GB")
    session = session_of(user_id)
    column, wanted = ("user_id", user_id) if session is None else ("session_id", session)
    for table, found, given in tables:
        if column not in [one.name for one in table.columns]:
            continue
        everything = given.model_copy(update={"where": {}})  # rows that no run reads hold the user, too
        for part in found.parts:
            for ids in landed_ids(part, table, everything, column):
                if pc.any(pc.equal(ids, wanted)).as_py():
                    return str(part.path)
    return ""


def _found(folder: UPath, table: Any, mapping: DataMapping) -> Iterator[tuple[TableMapping, Found]]:
    for given in mapping.of(table):
        found = find_table(folder, table, given)
        if found is not None:
            yield given, found


def _source(settings: PipelineSettings) -> tuple[UPath, DataMapping]:
    frozen = sorted(settings.home.glob("*runs/????-??-??/source.json"), key=lambda path: path.stat().st_mtime)
    if frozen:
        about = json.loads(frozen[-1].read_text())
        folder = existing_folder(str(about["uri"]))
        landing = about.get("landing")
        return folder, DataMapping.model_validate(landing["mapping"]) if landing else read_mapping(folder, settings)
    if settings.data.source != EMBEDDED:
        folder = existing_folder(settings.data.source)
        return folder, read_mapping(folder, settings)
    snapshots = sorted((settings.home / "source").glob("date=*"))
    if not snapshots:
        raise _NotLookedAt("the home has no run that names one")
    return place(snapshots[-1]), DataMapping()
