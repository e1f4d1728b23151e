"""Who wants to know which tables are read and written: the lake tells, and whoever listens keeps it.

The rows are those that a manifest counts, so nothing is read to know them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TableUse:
    """One table of one date that was read or written.

    Attributes:
        table: its name.
        date: its date, YYYY-MM-DD.
        rows: how many it has; None for a table of other files, such as a model.
        new: of a table that was written, whether its rows differ from those before; None for one that was read.
    """

    table: str
    date: str
    rows: int | None
    new: bool | None = None

    @classmethod
    def of(cls, manifest: dict[str, Any], *, new: bool | None = None) -> "TableUse":
        """The use of a table that has this manifest."""
        return cls(manifest["table"], manifest["date"], manifest["rows"], new)

    def __str__(self) -> str:
        counted = "" if self.rows is None else f": {self.rows:,} rows"
        return f"{self.table} of {self.date}{counted}{', the same as before' if self.new is False else ''}"


_listeners: list[Callable[[TableUse], None]] = []


@contextmanager
def heard_by(listener: Callable[[TableUse], None]) -> Iterator[None]:
    """Let a function hear of each use of a table while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def tell(use: TableUse) -> None:
    """Say that a table was read or written."""
    for listener in _listeners:
        listener(use)
