"""What was done about a request, without the id: `<home>/forgotten/<request>.json`. An unfinished request goes on there."""

import json
import re
import uuid
from pathlib import Path
from typing import Any

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.registry.champion import now

_NAME = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}\.json")


class Record:
    """The record of one request. Every change is written at once.

    Attributes:
        content: JSON values: state (unfinished or finished), user (the hash of the id), requested_at, finished_at, by, reason,
            tables (date -> table -> what was done), files, models, and notes.
        name: name of the request.
    """

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self._path, self.content = path, content

    @classmethod
    def begin(cls, settings: PipelineSettings, hashed: str, by: str, reason: str) -> "Record":
        """The record of an unfinished request about the same user, or else a new one."""
        folder = settings.home / "forgotten"
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            if _NAME.fullmatch(path.name):
                content = json.loads(path.read_text())
                if content["user"] == hashed and content["state"] == "unfinished":
                    return cls(path, content)
        at = now()
        content = {"state": "unfinished", "user": hashed, "requested_at": at, "by": by, "reason": reason, "tables": {}}
        name = re.sub(r"[-:]|\+.*", "", at)
        found = cls(folder / f"{name}-{uuid.uuid4().hex[:8]}.json", content | {"files": {}, "models": [], "notes": []})
        found.write()
        return found

    @property
    def name(self) -> str:
        """Name of the request."""
        return self._path.stem

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self._path

    def write(self) -> None:
        """Write it as it is now."""
        write_json(self._path, self.content)

    def table(self, date: str, table: str, rows: int, *, withdrawn: bool) -> None:
        """Add what was done to a table of a date."""
        done = self.content["tables"].setdefault(date, {}).setdefault(table, {"rows": 0, "removed_as_a_whole": False})
        done["rows"] += rows
        done["removed_as_a_whole"] |= withdrawn
        self.write()

    def files(self, kind: str, count: int) -> None:
        """Add a number of files, folders or rows of a database that were cleaned or removed."""
        if count:
            self.content["files"][kind] = self.content["files"].get(kind, 0) + count
            self.write()

    def finish(self, **about: Any) -> None:
        """The work is done."""
        self.content |= about | {"state": "finished", "finished_at": now()}
        self.write()
