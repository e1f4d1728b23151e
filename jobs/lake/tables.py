"""Dated tables: published whole or not at all, with a manifest that says what made them.

Layout: `<root>/<table>/date=YYYY-MM-DD/v-<when>-<hex>/...files`, and beside the versions one file `CURRENT`, the manifest of
the version in force. Each writer puts its files into a folder of its own, and then publishes them by replacing `CURRENT`. So a
reader sees the old table or the new one, even if others write or are killed. No folder is ever renamed, because an object store
could not do that. Later writers remove replaced versions and what killed writers left, once nobody can be reading or writing
them any more. If the same rows are written twice, the version stays.
"""

import datetime as dt
import functools
import json
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from upath import UPath

from jobs.base.errors import DataError
from jobs.base.files import folder_digest, json_text
from jobs.base.places import arrow_source, children, files_below, open_dataset, place, remove_folder, replace_text
from jobs.base.settings import PipelineSettings
from jobs.lake.table_use import TableUse, tell

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_VERSION, _WHEN = re.compile(r"^v-(\d{8}T\d{6})-[0-9a-f]{8}$"), "%Y%m%dT%H%M%S"
# A run ends after a day at most (dags/esans_daily_retraining.py), so after two days no step uses what it began with.
KEPT_FOR = dt.timedelta(days=2)
_SWEPT_DATES = 8  # dates in which a writer looks for leftovers: its own and the seven before it


@dataclass
class Pending:
    """A table that is being written: put files under `path`, and anything worth reporting into `stats` (JSON values)."""

    path: UPath
    stats: dict[str, Any] = field(default_factory=dict)


class Lake:
    """The dated tables below one folder, on this machine or in a store."""

    def __init__(self, root: str | Path) -> None:
        self.root = place(root)

    @classmethod
    def of(cls, settings: PipelineSettings) -> "Lake":
        """The lake of a pipeline: at the place that the setting `lake` names, else in the home folder."""
        return cls(settings.lake or settings.home / "lake")

    @contextmanager
    def write(
        self, table: str, settings: PipelineSettings, *, inputs: Sequence[str] = (), extra_inputs: Mapping[str, str] = {}
    ) -> Iterator[Pending]:
        """Publish one date of a table when the block ends without an error. Otherwise publish nothing.

        Args:
            table: snake_case table name.
            settings: gives the date and the configuration recorded in the manifest.
            inputs: tables of the same date that this one is made from. Their digests are recorded.
            extra_inputs: further inputs by name, with their digests (a table of another date, a source file).
        """
        folder = self._folder(table, settings.date)
        pending = _new_version(folder)
        digests = {name: self.manifest(name, settings.date)["digest"] for name in inputs} | dict(extra_inputs)
        published = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield pending
            files = files_below(pending.path)
            noise = [path for path in files if path.name == "_SUCCESS" or path.suffix == ".crc"]
            for path in noise:
                path.unlink()
            if len(noise) == len(files):
                raise RuntimeError(f"nothing was written for table '{table}' at {pending.path}")
            digest = folder_digest(pending.path)
            before = _manifest(folder)
            same = before and before["digest"] == digest and _holds(folder / before["version"], digest)
            version = folder / before["version"] if before and same else pending.path
            manifest = {
                "table": table,
                "date": settings.ds,
                "version": version.name,
                "digest": digest,
                "rows": _parquet_rows(version),
                "stats": pending.stats,
                "inputs": digests,
                "config_hash": settings.config_hash(),
                "git_sha": git_sha(),
                "written_at": _now(),
            }
            self._sweep(table, settings.date, keep=pending.path)
            published = version  # set before the write: if its answer is lost, it looks failed but may have happened
            # `aside` lies among the writer's own files, so it is removed with them if the writer is killed at this moment.
            replace_text(folder / "CURRENT", json_text(manifest), aside=pending.path / "CURRENT")
            tell(TableUse.of(manifest, new=not same))
        finally:
            if published != pending.path:
                remove_folder(pending.path)

    @contextmanager
    def rewrite(self, table: str, date: dt.date, **why: str) -> Iterator[tuple[UPath, Pending]]:
        """Publish a changed copy of a table of one date when the block ends without an error.

        Only for a caller who has the home alone (`jobs.base.locks.nobody_at_work`). The manifest stays as it is but for
        version, digest, rows and the list `rewritten`. This says of each change when and why it was made, and which digest the
        rows had before. The version before stays on disk until `remove_others`.

        Args:
            table: a published table.
            date: its date.
            why: further entries of the list `rewritten`.

        Yields:
            The folder of the version in force, and the new version, to be filled from it.
        """
        folder, before = self._folder(table, date), self.manifest(table, date)
        pending, published = _new_version(folder, before["stats"]), False
        try:
            yield folder / before["version"], pending
            digest, rows = folder_digest(pending.path), _parquet_rows(pending.path)
            changes = [*before.get("rewritten", []), {"at": _now(), "digest_before": before["digest"], **why}]
            manifest = before | {"version": pending.path.name, "digest": digest, "rows": rows, "rewritten": changes}
            published = True  # before the write, as above
            replace_text(folder / "CURRENT", json_text(manifest), aside=pending.path / "CURRENT")
        finally:
            if not published:
                remove_folder(pending.path)

    def adopt_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Take over what another lake says of one date of a table, without the rows."""
        folder = self._folder(manifest["table"], dt.date.fromisoformat(manifest["date"]))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "CURRENT").write_text(json_text(manifest))

    def remove_others(self, table: str, date: dt.date) -> int:
        """Remove at once what is not in force: replaced versions, and what killed writers left. Returns how many there were.

        Only for a caller who has the home alone.

        Raises:
            OSError: something could not be removed.
        """
        folder = self._folder(table, date)
        manifest = _manifest(folder)
        others = [path for path in children(folder) if path.name not in ("CURRENT", manifest and manifest["version"])]
        for path in others:
            remove_folder(path) if path.is_dir() else path.unlink()
            if path.exists():
                raise OSError(f"{path} could not be removed")
        return len(others)

    def withdraw(self, table: str, date: dt.date) -> None:
        """Remove a table of one date, with all its versions. Only for a caller who has the home alone."""
        (self._folder(table, date) / "CURRENT").unlink(missing_ok=True)
        self.remove_others(table, date)

    def tables(self) -> list[str]:
        """Names of the tables that have a folder, whether or not anything was published there."""
        return [path.name for path in children(self.root) if _NAME.match(path.name)]

    def begun_dates(self, table: str) -> list[dt.date]:
        """Dates that have a folder, ascending, whether or not anything was published there."""
        names = (path.name for path in children(self.root / table))
        return sorted(dt.date.fromisoformat(name.removeprefix("date=")) for name in names if name.startswith("date="))

    def manifest(self, table: str, date: dt.date) -> dict[str, Any]:
        """The manifest of a published table. Raises `DataError` if that date was never published."""
        folder = self._folder(table, date)
        manifest = _manifest(folder)
        if manifest is None:
            raise DataError(
                f"no table '{table}' is published for {date}.",
                file=folder,
                remedy="first run the job that writes it for this date (docs/architecture.md lists who writes what).",
            )
        return manifest

    def path(self, table: str, date: dt.date) -> UPath:
        """Folder with the files of the version in force, for a reader of them."""
        manifest = self.manifest(table, date)
        tell(TableUse.of(manifest))
        return self._folder(table, date) / manifest["version"]

    def exists(self, table: str, date: dt.date) -> bool:
        """Whether that date of the table is published."""
        return _manifest(self._folder(table, date)) is not None

    def intact(self, table: str, date: dt.date) -> bool:
        """Whether that date of the table is published, and its files are unchanged since."""
        folder = self._folder(table, date)
        manifest = _manifest(folder)
        return manifest is not None and _holds(folder / manifest["version"], manifest["digest"])

    def dates(self, table: str) -> list[dt.date]:
        """Published dates of a table, ascending."""
        return [date for date in self.begun_dates(table) if self.exists(table, date)]

    def previous_date(self, table: str, date: dt.date) -> dt.date | None:
        """The latest published date before `date`, or None."""
        earlier = (day for day in reversed(self.begun_dates(table)) if day < date)
        return next((day for day in earlier if self.exists(table, day)), None)

    def read(self, table: str, date: dt.date, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet table of one date, in memory."""
        return open_dataset(self.path(table, date)).to_table(columns=list(columns) if columns else None)

    def read_pandas(self, table: str, date: dt.date, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """A Parquet table of one date as a data frame."""
        return self.read(table, date, columns).to_pandas()

    def _folder(self, table: str, date: dt.date) -> UPath:
        if not _NAME.match(table):
            raise ValueError(f"table name {table!r} must be snake_case")
        return self.root / table / f"date={date.isoformat()}"

    def _sweep(self, table: str, date: dt.date, keep: UPath) -> None:
        """Remove versions of this date and some before it that are not in force, begun more than `KEPT_FOR` ago.

        If the version in force is younger than that, the one before it may still have readers, so all versions stay. Names
        are never used twice, so a version that is out of force stays out of force.
        """
        oldest = dt.datetime.now(dt.UTC) - KEPT_FOR
        dates = [day for day in self.begun_dates(table) if day <= date]
        for folder in (self._folder(table, day) for day in dates[-_SWEPT_DATES:]):
            manifest = _manifest(folder)
            if manifest and dt.datetime.fromisoformat(manifest["written_at"]) > oldest:
                continue
            for version in children(folder):
                begun = _VERSION.match(version.name)
                in_use = version == keep or (manifest and version.name == manifest["version"])
                if begun and not in_use and dt.datetime.strptime(begun[1], _WHEN).replace(tzinfo=dt.UTC) < oldest:
                    remove_folder(version)


def _new_version(folder: UPath, stats: Mapping[str, Any] = {}) -> Pending:
    """A version to be written, in a folder whose name is never used twice."""
    return Pending(folder / f"v-{dt.datetime.now(dt.UTC):{_WHEN}}-{uuid.uuid4().hex[:8]}", dict(stats))


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


@functools.cache
def git_sha() -> str:
    """Commit of the code, with `+dirty` when the working tree differs; `unknown` outside a checkout."""
    here = Path(__file__).parent

    def git(*args: str) -> str:
        return subprocess.run(["git", *args], cwd=here, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+dirty" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _holds(version: UPath, digest: str) -> bool:
    try:
        return folder_digest(version) == digest
    except (OSError, pa.ArrowException):
        return False


def _manifest(folder: UPath) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "CURRENT").read_text())
    except FileNotFoundError:
        return None


def _parquet_rows(folder: UPath) -> int | None:
    """How many rows the Parquet files of a folder have; None if it has none, as that of a model."""
    files = [path for path in files_below(folder) if path.suffix == ".parquet"]
    return None if not files else sum(pq.ParquetFile(**arrow_source(path)).metadata.num_rows for path in files)
