"""Keeps the published serving bundles on disk: one of them is in force, and a history says which was in force when, and why.

Layout: `<root>/bundles/<date>-v<version>-<digest>/`, `<root>/CURRENT` (JSON: what is in force, by whom and why),
`<root>/history.jsonl` (the same, one line for every change) and, while a bundle is tried on a share of the users,
`<root>/CANARY`. A bundle is copied aside, checked, and put in place by one rename. Another rename replaces CURRENT and so
puts it in force. So a bundle is there completely or not at all, and a reader finds the state before or after a change,
whenever a writer is killed.
"""

import datetime as dt
import json
import os
import re
import shutil
import uuid
from pathlib import Path
from typing import Any

from esans_core.serving.bundle_files import BUNDLE
from jobs.base.errors import DataError
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings
from jobs.serving.verified import verify

_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})-v(\d{1,18})-([0-9a-f]{8})")
_ASIDE = ".aside-"  # names of files that are being copied or removed begin with this


class ServingStore:
    """The bundles below one folder. Writers wait for each other; readers never wait.

    Args:
        root: the folder. It is made when the first bundle is added.
        keep: number of newest bundles that `add` keeps, besides the one in force.
    """

    def __init__(self, root: Path, *, keep: int = 10) -> None:
        self.root, self.keep = root, keep
        self._bundles, self._pointer, self._history = root / "bundles", root / "CURRENT", root / "history.jsonl"
        self._trial = root / "CANARY"

    @classmethod
    def of(cls, settings: PipelineSettings) -> "ServingStore":
        """The store of a pipeline: in the folder `serving` if that is set, else in the home folder."""
        return cls(settings.serving_root, keep=settings.bundle.keep)

    def names(self) -> list[str]:
        """Names of the bundles in the store, oldest version first."""
        found = [match for path in self._bundles.glob("*") if (match := _NAME.fullmatch(path.name))]
        return [match[0] for match in sorted(found, key=lambda match: (int(match[2]), match[1], match[3]))]

    def path(self, name: str) -> Path:
        """Folder of a bundle.

        Raises:
            DataError: there is no bundle of this name.
        """
        bundle_parts(name)
        if not (folder := self._bundles / name).is_dir():
            known = ", ".join(self.names()[-5:]) or "none"
            raise DataError(
                f"there is no bundle {name} (newest: {known}).", file=self._bundles, remedy="name one of those that are there."
            )
        return folder

    def about(self, name: str) -> dict[str, Any]:
        """What a bundle says about itself: the model, its date and run key, the digest of its weights, and its data.

        Raises:
            DataError: there is no bundle of this name.
        """
        return dict(json.loads((self.path(name) / BUNDLE).read_text())["about"])

    def current(self) -> str | None:
        """Name of the bundle in force, or None."""
        entry = self._in_force()
        return None if entry is None else entry["name"]

    def add(self, source: Path, name: str) -> Path:
        """Copy a bundle into the store, unless it is there already; it is not in force yet.

        Args:
            source: folder of the bundle.
            name: as `bundle_name` gives it.

        Returns:
            Its folder in the store.

        Raises:
            DataError: the name does not fit, or the files (of the source or of the bundle already here) are not as built.
        """
        digest = bundle_parts(name)[2]
        with alone_in(self.root):
            self._bundles.mkdir(exist_ok=True)
            self._sweep()
            target = self._bundles / name
            if target.exists():
                _check(target, name, digest)
            else:
                aside = self._bundles / f"{_ASIDE}{uuid.uuid4().hex}"
                try:
                    shutil.copytree(source, aside, symlinks=True)
                    _check(aside, name, digest)
                    _to_disk(aside)
                    aside.rename(target)
                finally:
                    shutil.rmtree(aside, ignore_errors=True)
                _sync(self._bundles)
                self._prune(name)
        return target

    def activate(self, name: str, *, by: str, reason: str, version: str, registry: str = "") -> None:
        """Put a bundle in force, with one line in the history.

        Nothing happens if it is in force already, unless it was published from another registry before.

        Args:
            name: name of a bundle in the store.
            by: who did it.
            reason: why.
            version: version of the registered model; "" if the registry no longer has it.
            registry: kind of the registry that has the version (`PipelineSettings.registry_kind`); "" if it is not known.

        Raises:
            DataError: the bundle is not in the store, or its files are not those that were built.
        """
        with alone_in(self.root):
            _check(self.path(name), name, bundle_parts(name)[2])
            before = self._in_force()
            if before is not None and before["name"] == name and registry in ("", before.get("registry") or registry):
                return
            self._write_history()  # the writer of the present entry may have been killed before it wrote the history
            now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
            entry = {"at": now, "name": name, "version": str(version), "by": by, "reason": reason, "registry": registry}
            self._put(self._pointer, entry)
            self._trial.unlink(missing_ok=True)  # it was compared with the bundle before, and may have been taken back
            self._write_history()

    def canary(self) -> dict[str, Any] | None:
        """The bundle that is tried on a share of the users: at, name, version, share, by, reason. None if there is none."""
        return _read(self._trial)

    def start_canary(self, name: str, share: float, *, by: str, reason: str, version: str) -> None:
        """Let a share of the users get another bundle, until `end_canary` or until the bundle in force changes.

        Args:
            name: name of a bundle in the store.
            share: above 0 and below 1.
            by: who did it.
            reason: why.
            version: version of the registered model.

        Raises:
            DataError: the bundle is not in the store, its files are not those that were built, or it is in force.
        """
        with alone_in(self.root):
            _check(self.path(name), name, bundle_parts(name)[2])
            if name == self.current():
                raise DataError(f"bundle {name} is in force: all users get it.", remedy="name another one.")
            now = dt.datetime.now(dt.UTC).isoformat(timespec="microseconds")
            entry = {"at": now, "name": name, "version": version, "share": share, "by": by, "reason": reason}
            self._put(self._trial, entry)

    def end_canary(self) -> None:
        """Let all users get the bundle in force again."""
        with alone_in(self.root):
            self._trial.unlink(missing_ok=True)
            _sync(self.root)

    def _put(self, path: Path, entry: dict[str, Any]) -> None:
        aside = self.root / f"{_ASIDE}{uuid.uuid4().hex}"
        aside.write_text(json.dumps(entry) + "\n")
        _sync(aside)
        aside.replace(path)
        _sync(self.root)

    def history(self) -> list[dict[str, Any]]:
        """Every change of the bundle in force, oldest first: at, name, version, by, reason, and registry, if that was noted."""
        written, in_force = self._lines(), self._in_force()
        return written if in_force is None or in_force in written else [*written, in_force]

    def _in_force(self) -> dict[str, Any] | None:
        return _read(self._pointer)

    def _lines(self) -> list[dict[str, Any]]:
        """The entries of the history file. A last line without a line end was cut off in writing, and does not count."""
        return [json.loads(line) for line in self._whole_lines().splitlines()]

    def _whole_lines(self) -> bytes:
        content = self._history.read_bytes() if self._history.exists() else b""
        return content[: content.rfind(b"\n") + 1]

    def _write_history(self) -> None:
        """Append the entry in force to the history, unless it is there."""
        in_force = self._in_force()
        if in_force is None or in_force in self._lines():
            return
        with self._history.open("ab") as stream:
            stream.truncate(len(self._whole_lines()))
            stream.write((json.dumps(in_force) + "\n").encode())
            stream.flush()
            os.fsync(stream.fileno())

    def _prune(self, added: str) -> None:
        """Remove the oldest bundles, but neither the one in force, nor its canary, nor the one just added."""
        spared = {self.current(), (self.canary() or {}).get("name"), added}
        for name in self.names()[: -self.keep]:
            if name not in spared:
                (self._bundles / name).rename(self._bundles / f"{_ASIDE}{uuid.uuid4().hex}")  # at once, not file by file
        self._sweep()

    def _sweep(self) -> None:
        """Remove what killed writers left. The caller holds the lock, so nobody else is writing."""
        for folder in (self.root, self._bundles):
            for path in folder.glob(f"{_ASIDE}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def bundle_name(date: str, version: str, digest: str) -> str:
    """Name of a bundle: its logical date (YYYY-MM-DD), the number of its version, and the first eight digits of its digest."""
    return f"{date}-v{version}-{digest[:8]}"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def bundle_parts(name: str) -> tuple[str, str, str]:
    """Date, version and first digits of the digest of a bundle's name. Raises `DataError` if it is no such name."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"expected a bundle named like 2026-01-28-v3-0123abcd, got {name!r}.",
            remedy="take a name from the store's folder `bundles`.",
        )
    return match[1], match[2], match[3]


def _check(folder: Path, name: str, digest: str) -> None:
    found = verify(folder)["digest"]
    if not found.startswith(digest):
        raise DataError(f"bundle {name} has digest {found[:8]}.", file=folder, remedy="name a bundle by its own digest.")


def _to_disk(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
