"""Temporary folders that go with the process that made them, or are swept when it was killed.

A process holds the lock of its folder. The kernel drops it when the process ends, however it ends. So a folder that nobody
holds has no owner any more, and whoever takes a folder beside it removes it first.

Spark leaves `blockmgr-*`, `spark-*` and `artifacts-*` in the temporary folder if its JVM is killed, with all shuffled data, and
nobody can tell whose they are. So each driver puts them all into one such folder.
"""

import atexit
import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.base.errors import DataError

SYSTEM = Path("/tmp")
IN_HOME = ".scratch"
_TRIES = 10
_held: dict[int, tuple[Path, int]] = {}  # of this process, by its number: a forked process must not take it over


@contextmanager
def scratch_in(home: Path) -> Iterator[Path]:
    """A folder in the home, for files that processes of other machines must reach. It is removed when the block ends."""
    folder, handle = _take(home / IN_HOME)
    try:
        yield folder
    finally:
        _give_back(folder, handle)


def spark_scratch(root: Path = SYSTEM) -> Path:
    """The folder for the temporary files of this process's Spark, below `root`. It is removed when the process ends.

    Raises:
        DataError: another account has taken the name under which these folders lie.
    """
    process = os.getpid()
    if process not in _held:
        base = _base(root)
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(base):
            raise DataError(
                "this folder for Spark's temporary files belongs to another account.",
                file=base,
                remedy="remove it, or name another place: JDK_JAVA_OPTIONS=-Djava.io.tmpdir=<folder>.",
            )
        _held[process] = _take(base)
        atexit.register(_at_exit, process)
    return _held[process][0]


def sweep(root: Path = SYSTEM) -> int:
    """Remove what killed drivers of Spark left below `root`; returns how many there were."""
    base = _base(root)
    return _sweep(base) if _is_ours(base) else 0


def _base(root: Path) -> Path:
    return root / f"esans-spark-{os.getuid()}"


def _is_ours(base: Path) -> bool:
    """Whether a folder is there that this account has made. Everybody may write beside it."""
    return base.is_dir() and not base.is_symlink() and base.stat().st_uid == os.getuid()


def _sweep(base: Path) -> int:
    swept = 0
    for name in base.glob("*.lock"):
        if (handle := _hold(name)) is not None:
            _give_back(name.with_suffix(""), handle)
            swept += 1
    return swept


def _take(base: Path) -> tuple[Path, int]:
    """A new folder, and the handle that holds it."""
    for _ in range(_TRIES):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(base)
        folder = base / uuid.uuid4().hex
        if (handle := _hold(folder.with_suffix(".lock"), os.O_CREAT | os.O_EXCL)) is not None:
            folder.mkdir(mode=0o700)
            return folder, handle
    raise OSError(f"no folder could be made and locked in {base}; does its file system know locks (flock)?")


def _hold(path: Path, further: int = 0) -> int | None:
    """A handle that holds a lock; None if another process holds it, or if the file is gone.

    The lock is on a file beside the folder, because a folder on NFS cannot be locked.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | further, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):  # else it was swept before it could be held
            return handle
    except OSError:
        pass
    os.close(handle)
    return None


def _give_back(folder: Path, handle: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_suffix(".lock").unlink(missing_ok=True)
    os.close(handle)
    with suppress(OSError):  # others lie beside it
        folder.parent.rmdir()


def _at_exit(process: int) -> None:
    if process == os.getpid():
        _give_back(*_held.pop(process))
