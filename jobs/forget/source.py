"""Whether the source, as it is now, still holds a user. It is asked only where that is cheap."""

import csv
import json

from upath import UPath

from jobs.base.errors import DataError
from jobs.base.places import existing_folder, files_below, place
from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.forget.parquet import Change, dropped

_CHEAP = 2 * 2**30  # bytes of the log, which is read once


def source_holds(settings: PipelineSettings, user_id: str) -> str | None:
    """Where the source holds the user; "" if it does not; None if it was not looked at, or cannot be read.

    The source is the one of the latest run, which for the embedded shop is that date's snapshot, else that of the settings.
    """
    try:
        folder = _folder(settings)
        if folder is None:
            return None
        names = (f"{table}{suffix}" for table in ("interactions", "users") for suffix in (".parquet", ".csv"))
        logs = [path for name in names if (path := folder / name).exists()]
        files = [file for log in logs for file in files_below(log)]
        if not files or sum(file.stat().st_size for file in files) > _CHEAP:
            return None
        return next((str(file) for file in files if _holds(file, user_id)), "")
    except (DataError, OSError, ValueError):
        return None


def _folder(settings: PipelineSettings) -> UPath | None:
    frozen = sorted(settings.home.glob("*runs/????-??-??/source.json"), key=lambda path: path.stat().st_mtime)
    if frozen:
        return existing_folder(str(json.loads(frozen[-1].read_text())["uri"]))
    if settings.data.source != EMBEDDED:
        return existing_folder(settings.data.source)
    snapshots = sorted((settings.home / "source").glob("date=*"))
    return place(snapshots[-1]) if snapshots else None


def _holds(file: UPath, user_id: str) -> bool:
    if file.suffix == ".parquet":
        return sum(Change("user_id", user_id, dropped).rows_of(file)) > 0
    if file.suffix != ".csv":
        return False
    with file.open("r", encoding="utf-8-sig", newline="") as stream:  # type: ignore[call-overload]
        return any(row.get("user_id") == user_id for row in csv.DictReader(stream))
