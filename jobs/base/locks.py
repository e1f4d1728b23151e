"""Locks, so that jobs of one home folder do not work in the same place at the same time."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STEPS = ".steps.lock"  # in a home: steps hold it together, and whoever rewrites what they have left holds it alone


class HomeBusyError(RuntimeError):
    """Steps are at work in a home folder. The same call may succeed once they have ended."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Make other jobs that ask for the same folder wait. The lock is free again when the process that holds it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def at_work(home: Path) -> Iterator[None]:
    """Work in a home beside other steps. If somebody has the home alone (`nobody_at_work`), wait until that ends."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / _STEPS).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


@contextmanager
def nobody_at_work(home: Path, *, patience: float = 5) -> Iterator[None]:
    """Have a home alone: no step is at work in it, and steps that start now wait.

    Args:
        home: the home folder.
        patience: seconds to wait for steps that are about to end.

    Raises:
        HomeBusyError: steps are at work.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / _STEPS).open("w") as handle:
        until = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise HomeBusyError(f"a step is at work in {home}: wait until its run has ended, and try again.") from None
                time.sleep(0.2)
        yield
