"""What a home has come to: the model in force, the last run, what waits for a person, and how long its disk lasts."""

import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.local.client import AirflowClient, ApiError
from jobs.report.state import model_in_force, verdict_of_run, waiting

_DAYS = 7  # what was written within these days says how much a date takes
_NOT_COUNTED = frozenset({"postgres", "airflow"})  # databases and logs are changed in place and rotated


@dataclass(frozen=True)
class Disk:
    """The disk of a home.

    Attributes:
        free: bytes left on it.
        each: bytes that one date has taken lately, on average; None before the first one.
    """

    free: int
    each: int | None

    @property
    def days(self) -> float | None:
        """For how many more dates the disk lasts; None if that is not known."""
        return self.free / self.each if self.each else None

    def __str__(self) -> str:
        left = f"{self.free / 2**30:,.1f} GiB left"
        if self.days is None or self.each is None:
            return f"{left}; how long it lasts is known after the first date"
        size = f"{self.each / 2**30:,.1f} GiB" if self.each >= 2**30 else f"{self.each / 2**20:,.0f} MiB"
        return f"{left}, enough for {int(self.days):,} more dates of {size} each"


def standing(home: Path, client: AirflowClient | None, disk: Disk) -> Iterator[tuple[str, str]]:
    """What to tell of a home besides its processes, as pairs of a name and a sentence.

    Args:
        home: its folder.
        client: of its Airflow; None if that does not answer.
        disk: as `disk_of` found it.
    """
    model = model_in_force(home)
    if model is None:
        yield "champion", "none: no model is in force yet"
    else:
        yield (
            "champion",
            f"version {model['version']}, bundle {model['name']}, since {model['since']} UTC, by {model['decided']}",
        )
    yield "last run", _last_run(home, client)
    waits = [f"{one['what']}: {one['address']}" if one["address"] else one["what"] for one in waiting(home)]
    yield from (("waits", one) for one in waits or ["nothing waits for a person"])
    yield "disk", str(disk)


def disk_of(home: Path) -> Disk:
    """What is left on the disk of a home, and what its latest dates have taken of it."""
    since = time.time() - _DAYS * 24 * 3600
    dates = sum(folder.stat().st_mtime >= since for folder in (home / "runs").glob("????-??-??"))
    written = sum(size for size, changed in _files(home) if changed >= since)
    return Disk(shutil.disk_usage(home).free, written // dates if dates else None)


def _last_run(home: Path, client: AirflowClient | None) -> str:
    if client is None:
        return "not known while Airflow does not answer"
    try:
        runs = client.runs(latest=1)
    except ApiError as error:
        return f"not known: {error}"
    if not runs:
        return "none yet"
    name, state = runs[0]["dag_run_id"], runs[0]["state"]
    return f"{name}, {state}; {verdict_of_run(home, name)}"


def _files(home: Path) -> Iterator[tuple[int, float]]:
    """Size on disk, and time of the last change, of each file of a home."""
    for folder, names, files in os.walk(home):
        if Path(folder) == home:
            names[:] = [name for name in names if name not in _NOT_COUNTED]
        for name in files:
            try:
                found = Path(folder, name).lstat()
            except OSError:  # gone meanwhile
                continue
            yield found.st_blocks * 512, found.st_mtime
