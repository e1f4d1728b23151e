"""What went into a step and came out of it, in its log and in its record: tables with their rows, and what was kept."""

import logging
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from jobs.lake.table_use import TableUse

log = logging.getLogger(__name__)


class Account:
    """Listens to the lake while a step runs (`jobs.lake.table_use.heard_by`).

    Args:
        aloud: whether each table goes into the log when it is read or written.

    Attributes:
        why: why the step had to run, or why an earlier result of it was kept.
    """

    def __init__(self, *, aloud: bool = True) -> None:
        self.why = "it ran, because this step runs each time"
        self._aloud, self._kept = aloud, False
        self._reads: dict[tuple[str, str], TableUse] = {}
        self._writes: dict[tuple[str, str], TableUse] = {}

    def __call__(self, use: TableUse) -> None:
        """Take note of one use. A table counts once, and what the step wrote itself is nothing that it reads."""
        key = (use.table, use.date)
        if use.new is not None:
            self._writes[key] = use
        elif key in self._reads or key in self._writes:
            return
        else:
            self._reads[key] = use
        if self._aloud:
            log.info("%s %s", "reads" if use.new is None else "wrote", use)

    def keep(self, tables: Iterable[TableUse]) -> None:
        """Take note that the step did not run, and that these tables of an earlier result were left as they are."""
        self._kept = True
        self._writes = {(use.table, use.date): use for use in tables}

    def record(self) -> dict[str, Any]:
        """What the step's record says of it.

        Returns:
            `reused`: whether an earlier result was kept; `why`; `reads` and `writes`: of each table its name, date and rows
            (null for a model and other files), and in `writes` also whether its rows are `new`.
        """
        reads = [{name: value for name, value in asdict(use).items() if name != "new"} for use in self._reads.values()]
        return {"reused": self._kept, "why": self.why, "reads": reads, "writes": [asdict(use) for use in self._writes.values()]}


def lines(record: dict[str, Any]) -> list[str]:
    """A step's record in words: why it ran or why an earlier result was kept, what it read and wrote, and how it ended."""
    said = [record["why"]] if record["why"] else []
    said += [f"read {TableUse(**use)}" for use in record["reads"]]
    if record["reused"]:
        said += [f"kept {TableUse(**use | {'new': None})}" for use in record["writes"]]
    else:
        said += [f"wrote {TableUse(**use)}" for use in record["writes"]]
    return [*said, f"{record['state']} in {record['seconds']:.1f} s, peak memory {record['peak_memory_mb']:,} MB"]
