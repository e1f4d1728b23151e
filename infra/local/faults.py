"""What a person reads when a command meets an error that nobody foresaw; the traceback goes into a file."""

import datetime as dt
import tempfile
import traceback
from pathlib import Path

from infra.local.environment import REPOSITORY

_LETTERS = 200


def raise_exit_behind(error: BaseException) -> None:
    """Raise the `SystemExit` during which an error came up, if there is one: a command that a signal ends has no fault."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, SystemExit):
            raise behind from None
        behind = behind.__context__


def fault_said(command: str, error: Exception) -> str:
    """Plain sentences about a fault of the program: what it was doing, and where the traceback is kept.

    Args:
        command: name of the command, such as `make check`.
        error: what nobody foresaw. Its notes say what was being done (`jobs.base.errors.doing`), the innermost first.
    """
    notes = getattr(error, "__notes__", [])
    while_doing = f" while it was {notes[0]}" if notes else ""
    said = next(iter(str(error).strip().splitlines()), "")[:_LETTERS]
    kind = type(error).__name__
    return (
        f"{command} stopped{while_doing}, because of something that it does not foresee. This is a fault of the program, and "
        f"not of your tables ({kind}{': ' if said else ''}{said}). What a developer needs to mend it is kept in "
        f"{_kept(error)}; please send that file along when you report the fault."
    )


def _kept(error: Exception) -> Path:
    """A new file with the traceback: in the folder `var/faults`, or else in that of temporary files."""
    text = "".join(traceback.format_exception(error))
    name = f"fault-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}-"
    for folder in (REPOSITORY / "var" / "faults", Path(tempfile.gettempdir())):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=folder, prefix=name, suffix=".txt", delete=False) as stream:
                stream.write(text)
            return Path(stream.name)
        except OSError:
            continue
    return Path("(no folder could be written)")
