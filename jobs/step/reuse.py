"""When a step need not run again: inputs, settings and code are as at its last success, and all it wrote is still there.

A step that can be reused has a recipe. Its code is what its module imports (`jobs.step.code_key`). After a success, its key is
kept in `<home>/reuse/<date>/<step>.json`, with the digests of the tables that the step wrote and the text of its files. The
next run of the date compares both. If they agree, it leaves the tables and puts the files back. A step gets only the sections
of the settings that its recipe names, so it cannot read another. But nothing notices a table that the recipe does not name.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.base.errors import DataError
from jobs.base.files import folder_digest, write_json, write_text
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake


@dataclass(frozen=True)
class Recipe:
    """What decides the result of a step besides the code and the date, and what the step writes.

    Attributes:
        sections: sections of the settings that the step may read.
        reads: lake tables of the same date.
        before: lake tables of which the step reads the latest earlier date.
        writes: lake tables that the step may write; only those that exist count.
        further: digests of inputs outside the lake, by name; may raise `DataError`.
        leaves: small text files that the step writes outside the lake.
    """

    sections: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    further: Callable[[PipelineSettings], Mapping[str, str]] = lambda settings: {}
    leaves: Callable[[PipelineSettings], tuple[Path, ...]] = lambda settings: ()

    def key(self, step: str, settings: PipelineSettings, code: str) -> str | None:
        """Hash of everything that decides the result; None if an input cannot be read, which the step itself will report.

        Args:
            step: its name.
            settings: those of the run.
            code: digest of its code (`jobs.step.code_key`).
        """
        lake = Lake.of(settings)
        try:
            parts = {
                "step": step,
                "date": settings.ds,
                "code": code,
                "settings": {name: getattr(settings, name).model_dump(mode="json") for name in self.sections},
                "reads": {table: lake.manifest(table, settings.date)["digest"] for table in self.reads},
                "before": {table: _latest_before(lake, table, settings) for table in self.before},
                "further": dict(self.further(settings)),
            }
        except (DataError, OSError):
            return None
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def recall(self, step: str, settings: PipelineSettings, key: str | None) -> dict[str, Any] | None:
        """The summary of the last success, if that had this key and its tables are unchanged. Its files are put back then."""
        try:
            kept: dict[str, Any] = json.loads(_memory(step, settings).read_text())
            if key is None or kept["key"] != key or kept["tables"] != self._tables(settings, on_disk=True):
                return None
        except (OSError, ValueError, DataError):  # nothing is remembered, or files of a table are gone or damaged
            return None
        for path in self.leaves(settings):
            write_text(path, kept["files"][path.name])
        return kept["summary"]

    def remember(self, step: str, settings: PipelineSettings, key: str | None, summary: Mapping[str, Any]) -> None:
        """Keep what `recall` needs."""
        files = {path.name: path.read_text() for path in self.leaves(settings)}
        kept = {"key": key, "tables": self._tables(settings), "files": files, "summary": summary}
        write_json(_memory(step, settings), kept)

    def _tables(self, settings: PipelineSettings, *, on_disk: bool = False) -> dict[str, str]:
        """Digests of the tables that the step wrote: as published, or `on_disk` of the files as they are now."""
        lake, date = Lake.of(settings), settings.date
        there = [table for table in self.writes if lake.exists(table, date)]
        if on_disk:
            return {table: folder_digest(lake.path(table, date)) for table in there}
        return {table: lake.manifest(table, date)["digest"] for table in there}


def _latest_before(lake: Lake, table: str, settings: PipelineSettings) -> str | None:
    date = lake.previous_date(table, settings.date)
    return None if date is None else f"{date}:{lake.manifest(table, date)['digest']}"


def _memory(step: str, settings: PipelineSettings) -> Path:
    return settings.home / "reuse" / settings.ds / f"{step}.json"
