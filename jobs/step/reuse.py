"""When a step need not run again: inputs, settings and code are as at its last success, and all it wrote is still there.

A step that can be reused has a recipe. Its code is what its module imports (`jobs.step.code_key`). After a success, its key is
kept in `<home>/reuse/<date>/<step>.json`, with the digests of the tables that the step wrote and the text of its files. The
next run of the date compares both. If they agree, it leaves the tables and puts the files back; if not, it says what differs.
A step gets only the sections of the settings that its recipe names, so it cannot read another. But nothing notices a table
that the recipe does not name.
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
from jobs.lake.table_use import TableUse
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

    def key(self, settings: PipelineSettings, code: str) -> dict[str, str] | None:
        """Digest of each thing that decides the result, by its name in words; None if an input cannot be read.

        Args:
            settings: those of the run.
            code: digest of the step's code (`jobs.step.code_key`).
        """
        lake = Lake.of(settings)
        try:
            parts: dict[str, object] = {"the code": code}
            parts |= {f"the settings of {name}": getattr(settings, name).model_dump(mode="json") for name in self.sections}
            parts |= {f"the table {table}": lake.manifest(table, settings.date)["digest"] for table in self.reads}
            parts |= {f"the latest earlier {table}": _latest_before(lake, table, settings) for table in self.before}
            parts |= {f"the input {name}": digest for name, digest in self.further(settings).items()}
        except (DataError, OSError):
            return None
        return {name: hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest() for name, part in parts.items()}

    def recall(self, step: str, settings: PipelineSettings, key: Mapping[str, str] | None) -> "Recalled":
        """The last success, if it had this key and its tables are unchanged. Its files are put back then."""
        try:
            kept: dict[str, Any] = json.loads(_memory(step, settings).read_text())
            before = kept["key"]
        except (OSError, ValueError):
            return Recalled("it ran, because no earlier success of it is known for this date")
        if key is None:
            return Recalled("it ran, because one of its inputs cannot be read")
        if not isinstance(before, dict):
            return Recalled("it ran, because its last success was of an earlier version of the pipeline")
        if changed := sorted(name for name in before.keys() | key.keys() if before.get(name) != key.get(name)):
            return Recalled(f"it ran, because of what has changed since its last success: {', '.join(changed)}")
        try:
            unchanged = kept["tables"] == self._tables(settings, on_disk=True)
        except (OSError, ValueError, DataError):  # files of a table are gone or damaged
            unchanged = False
        if not unchanged:
            return Recalled("it ran, because the tables that it wrote are no longer as it left them")
        for path in self.leaves(settings):
            write_text(path, kept["files"][path.name])
        why = "nothing new: all that decides the result is as at this step's last success, so that result is kept (run.reuse)"
        return Recalled(why, kept["summary"])

    def kept_tables(self, settings: PipelineSettings) -> list[TableUse]:
        """The tables of a result that is kept."""
        lake = Lake.of(settings)
        there = [table for table in self.writes if lake.exists(table, settings.date)]
        return [TableUse.of(lake.manifest(table, settings.date), new=False) for table in there]

    def remember(
        self, step: str, settings: PipelineSettings, key: Mapping[str, str] | None, summary: Mapping[str, Any]
    ) -> None:
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


@dataclass(frozen=True)
class Recalled:
    """What became of the wish to keep an earlier result.

    Attributes:
        why: why the result is kept, or why the step had to run.
        summary: of the last success, if it is kept.
    """

    why: str
    summary: dict[str, Any] | None = None


def _latest_before(lake: Lake, table: str, settings: PipelineSettings) -> str | None:
    date = lake.previous_date(table, settings.date)
    return None if date is None else f"{date}:{lake.manifest(table, date)['digest']}"


def _memory(step: str, settings: PipelineSettings) -> Path:
    return settings.home / "reuse" / settings.ds / f"{step}.json"
