"""Keeps a home folder whole where it lies. A home that was moved or copied must not name the place where it lay before.

MLflow keeps whole addresses of artifacts in its database, Airflow whole paths in `airflow.cfg`, and a run its home in
`settings.json`. With these, a copy would write into the home that it was copied from.
"""

import html
import json
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from jobs.base.files import write_json
from jobs.base.locks import alone_in

CHAMPION_FILE = "champion.json"  # the version that is the champion by the last decision
MARK = "home.json"  # which source the home belongs to, and where it lies
_PLACE = "place"
_SECONDS = 60  # to wait for another process that writes to the database
_RUNS = ("runs", "feature_runs", "tuning")  # folders of records, with a folder for each date
_TEXTS = (
    "airflow/airflow.cfg",
    "airflow/started.json",
    *(f"{runs}/*/*.json" for runs in _RUNS),
    *(f"{runs}/*/*/*.json" for runs in _RUNS),
    "reuse/*/*.json",
    "reports/*/*.html",
)
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
    ("model_versions", "source"),
)


def settle(home: Path) -> Path | None:
    """Let a home work where it lies now. Call this before anything works in it; it takes no time if the home was not moved.

    Args:
        home: the home folder, absolute and without links.

    Returns:
        The place where it lay before; None if it was not moved.
    """
    if not home.is_dir() or _place(home) == str(home):
        return None
    with alone_in(home / "runs"):
        before = _place(home)
        if before == str(home):
            return None
        moved = before is not None and not _same(Path(before), home)
        if moved:
            _rewrite(home, Path(str(before)))
        write_json(home / MARK, _read(home) | {_PLACE: str(home)})
    return Path(str(before)) if moved else None


def home_of_settings(path: Path) -> Path | None:
    """The home in which a run's `settings.json` lies; None if the file lies outside a run's folder."""
    path = path.resolve()
    return path.parents[2] if len(path.parents) > 2 and path.parent.parent.name in _RUNS else None


def _place(home: Path) -> str | None:
    """Where the home says that it lies. Homes of version 0.2 say so in the settings of their runs only."""
    if place := _read(home).get(_PLACE):
        return str(place)
    for runs in _RUNS:
        for path in sorted((home / runs).glob("*/settings.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                return str(json.loads(path.read_text())["home"])
    return None


def _read(home: Path) -> dict[str, str]:
    try:
        return dict(json.loads((home / MARK).read_text()))
    except FileNotFoundError:
        return {}


def _same(before: Path, home: Path) -> bool:
    """Whether two paths lead to one folder, as on a machine that mounts it twice."""
    return before.exists() and before.samefile(home)


def _rewrite(home: Path, before: Path) -> None:
    registry = home / "mlflow" / "mlflow.db"
    if registry.exists():
        _rewrite_addresses(registry, home.as_uri(), before.as_uri())
    forms = {form(str(before)): form(str(home)) for form in (str, html.escape, lambda path: json.dumps(path)[1:-1])}
    forms[before.as_uri()] = home.as_uri()
    longest = sorted(forms, key=len, reverse=True)
    pattern = re.compile(f"({'|'.join(map(re.escape, longest))})(?![^/\\\\\"'\\s<&,;)])")
    for names in _TEXTS:
        for path in home.glob(names):
            text = path.read_text()
            changed = pattern.sub(lambda found: forms[found[1]], text)
            if changed != text:
                aside = path.with_name(f".{path.name}-moved")
                aside.unlink(missing_ok=True)
                aside.touch(path.stat().st_mode & 0o777)  # some of them hold secrets
                aside.write_text(changed)
                aside.replace(path)


def _rewrite_addresses(registry: Path, new: str, old: str) -> None:
    with closing(sqlite3.connect(registry, timeout=_SECONDS)) as database, database:
        tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
        for table, column in _ADDRESSES:
            if table in tables:
                database.execute(
                    f"update {table} set {column} = ? || substr({column}, ?)"  # noqa: S608 - names from the list above
                    f" where {column} = ? or substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
