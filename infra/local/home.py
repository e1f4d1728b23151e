"""Which source a home folder belongs to."""

import json
from collections.abc import Callable
from pathlib import Path

from infra.local.processes import end_processes
from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.home import MARK, settle
from jobs.base.settings import EMBEDDED


def claim_home(home: Path, source: str | None, say: Callable[[str], None] = lambda line: None) -> str:
    """Tie a home to its source, so that the champions and features of two catalogues never mix; returns the source.

    A home that was moved or copied is made to work where it lies now.

    Args:
        home: the home folder.
        source: the source asked for; None takes the home's own source, or the embedded shop if it has none.
        say: gets a line if the home was moved or copied.

    Raises:
        DataError: the home belongs to another source.
    """
    if before := settle(home):
        say(f"{home} lay in {before} before: what it keeps names its new place now")
        if not before.exists() and end_processes(before):
            say("ended the processes that were at work in it when it was moved")
    mark = home / MARK
    said = json.loads(mark.read_text()) if mark.exists() else {}
    owner = said.get("source")
    claimed = source or owner or EMBEDDED
    if owner not in (None, claimed):
        raise DataError(
            f"belongs to the source {owner}, not {claimed}.",
            file=home,
            remedy="give each source a home of its own (HOME_FOLDER=, or --home).",
        )
    write_json(mark, said | {"source": claimed, "place": str(home)})
    return claimed
