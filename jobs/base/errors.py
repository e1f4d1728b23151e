"""Errors that a user can act on. A job that meets bad data exits with status 65 (EX_DATAERR) and is never retried."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

EXIT_BAD_DATA = 65


class DataError(Exception):
    """Input that cannot be used as it is. The message says where the fault is, what came, and what to do.

    Args:
        problem: what was expected and what came instead.
        remedy: what the reader should do about it, as an imperative sentence.
        file: the file, table or URI at fault.
        column: the column at fault.
        rows: a few of the offending row numbers or keys.
    """

    def __init__(
        self,
        problem: str,
        *,
        remedy: str,
        file: object | None = None,
        column: str | None = None,
        rows: Sequence[object] = (),
    ) -> None:
        self.problem, self.remedy = problem, remedy
        self.file, self.column, self.rows = file, column, tuple(rows)
        place = ", ".join(
            part
            for part in (
                str(file) if file is not None else "",
                f"column '{column}'" if column else "",
                f"rows {list(self.rows[:5])}" if rows else "",
            )
            if part
        )
        super().__init__(f"{place + ': ' if place else ''}{problem} Remedy: {remedy}")


class StepKilled(RuntimeError):
    """A step cannot go on because something that it works with was stopped from outside. The step itself is not at fault."""


class GateFailed(DataError):
    """A data-quality gate found a critical failure; nothing downstream may run."""


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Note on an error that nobody foresaw what was being done when it came, such as `reading the table items`."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        error.add_note(what)
        raise
