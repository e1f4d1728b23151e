"""Dated tables on disk: published whole or not at all, with a manifest that says what made them.

Layout: `<root>/<table>/date=YYYY-MM-DD/v-<digest>/...files` and beside the versions one file `CURRENT`, the manifest of the
version in force. Replacing that one file is the act of publishing, so a reader sees the old table or the new one, and a
killed writer leaves only a hidden staging folder. The version is named by the digest of its rows: writing the
same rows twice gives the same version.
"""

import datetime as dt
import functools
import hashlib
import io
import json
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from jobs.errors import DataError
from jobs.settings import PipelineSettings

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")
_DIGEST_ROWS = 65_536
_KEPT_VERSIONS = 2  # the version in force and the one before it, so that a reader that has just resolved a path can finish


@dataclass
class Pending:
    """A table being written: put files under `path`, and anything worth reporting in `stats` (JSON values)."""

    path: Path
    stats: dict[str, Any] = field(default_factory=dict)


class Lake:
    """The dated tables below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    @classmethod
    def of(cls, settings: PipelineSettings) -> "Lake":
        """The lake of a pipeline's home folder."""
        return cls(settings.home / "lake")

    @contextmanager
    def write(
        self, table: str, settings: PipelineSettings, *, inputs: Sequence[str] = (), extra_inputs: Mapping[str, str] = {}
    ) -> Iterator[Pending]:
        """Publish one date of a table when the block ends without an error; publish nothing otherwise.

        Args:
            table: snake_case table name.
            settings: gives the date and the configuration recorded in the manifest.
            inputs: tables of the same date this one is made from; their digests are recorded.
            extra_inputs: further inputs by name, with their digests (a table of another date, a source file).
        """
        folder = self._folder(table, settings.date)
        folder.mkdir(parents=True, exist_ok=True)
        staging = folder / f".staging-{uuid.uuid4().hex}"
        pending = Pending(staging)
        digests = {name: self.manifest(name, settings.date)["digest"] for name in inputs} | dict(extra_inputs)
        try:
            yield pending
            if not staging.is_dir():
                raise RuntimeError(f"nothing was written for table '{table}' at {staging}")
            for noise in [*staging.rglob("_SUCCESS"), *staging.rglob(".*.crc")]:
                noise.unlink()
            digest = folder_digest(staging)
            version = folder / f"v-{digest[:16]}"
            if version.exists() and not _holds(version, digest):
                # Its files were damaged since: a folder cannot be renamed onto a full one, so they step aside first.
                version.rename(folder / f".damaged-{uuid.uuid4().hex}")
            if version.exists():
                shutil.rmtree(staging)
            else:
                staging.rename(version)
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
                "written_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            }
            write_json(folder / "CURRENT", manifest)
            self._prune(folder, keep=version.name)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def manifest(self, table: str, date: dt.date) -> dict[str, Any]:
        """The manifest of a published table; raises `DataError` when that date was never published."""
        pointer = self._folder(table, date) / "CURRENT"
        if not pointer.exists():
            raise DataError(
                f"no table '{table}' is published for {date}.",
                file=self._folder(table, date),
                remedy="run the job that writes it for this date first (docs/architecture.md lists who writes what).",
            )
        return json.loads(pointer.read_text())

    def path(self, table: str, date: dt.date) -> Path:
        """Folder with the files of the version in force."""
        return self._folder(table, date) / self.manifest(table, date)["version"]

    def exists(self, table: str, date: dt.date) -> bool:
        """Whether that date of the table is published."""
        return (self._folder(table, date) / "CURRENT").exists()

    def dates(self, table: str) -> list[dt.date]:
        """Published dates of a table, ascending."""
        found = (self.root / table).glob("date=*/CURRENT")
        return sorted(dt.date.fromisoformat(pointer.parent.name.removeprefix("date=")) for pointer in found)

    def previous_date(self, table: str, date: dt.date) -> dt.date | None:
        """The latest published date before `date`, or None."""
        return max((d for d in self.dates(table) if d < date), default=None)

    def read(self, table: str, date: dt.date, columns: Sequence[str] | None = None) -> pa.Table:
        """A Parquet table of one date, in memory."""
        return pads.dataset(self.path(table, date), format="parquet").to_table(columns=list(columns) if columns else None)

    def read_pandas(self, table: str, date: dt.date, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """A Parquet table of one date as a data frame."""
        return self.read(table, date, columns).to_pandas()

    def _folder(self, table: str, date: dt.date) -> Path:
        if not _NAME.match(table):
            raise ValueError(f"table name {table!r} must be snake_case")
        return self.root / table / f"date={date.isoformat()}"

    def _prune(self, folder: Path, keep: str) -> None:
        versions = sorted(folder.glob("v-*"), key=lambda path: (path.name == keep, path.stat().st_mtime))
        for stale in [*versions[:-_KEPT_VERSIONS], *folder.glob(".damaged-*")]:
            shutil.rmtree(stale, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader never sees half a file."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    temporary.write_text(text)
    temporary.replace(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """SHA-256 over all files of a folder.

    Parquet files count by schema and rows, not by name or bytes: Spark names its part files at random, and the JVM lists
    the encodings in the footer in an order that changes from process to process. Other files count by name and bytes.
    """
    parts = []
    for path in folder.rglob("*"):
        if path.suffix == ".parquet":
            parts.append(_rows_digest(path))
        elif path.is_file():
            parts.append(f"{path.relative_to(folder)}:{file_digest(path)}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


def _rows_digest(path: Path) -> str:
    """SHA-256 of a Parquet file's rows as an Arrow stream; memory is bounded by one batch."""
    sink = _HashSink()
    file = pq.ParquetFile(path)
    with pa.ipc.new_stream(pa.PythonFile(sink, "w"), file.schema_arrow.remove_metadata()) as writer:
        for batch in file.iter_batches(batch_size=_DIGEST_ROWS):
            writer.write_batch(batch.replace_schema_metadata(None))
    return sink.hash.hexdigest()


class _HashSink(io.RawIOBase):
    """A file that keeps nothing but the hash of what was written to it."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.hash.update(data)
        return len(data)


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


def _holds(folder: Path, digest: str) -> bool:
    try:
        return folder_digest(folder) == digest
    except (OSError, pa.ArrowException):
        return False


def _parquet_rows(folder: Path) -> int:
    files = [str(path) for path in folder.rglob("*.parquet")]
    return pads.dataset(files, format="parquet").count_rows() if files else 0
