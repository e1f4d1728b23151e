"""Which source a home folder belongs to."""

import json
from pathlib import Path

from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.settings import EMBEDDED

_MARK = "home.json"


def claim_home(home: Path, source: str | None) -> str:
    """Tie a home to its source, so that the champions and features of two catalogues never mix; returns the source.

    Args:
        home: the home folder.
        source: the source asked for; None takes the home's own source, or the embedded shop if it has none.

    Raises:
        DataError: the home belongs to another source.
    """
    mark = home / _MARK
    owner = json.loads(mark.read_text())["source"] if mark.exists() else None
    claimed = source or owner or EMBEDDED
    if owner not in (None, claimed):
        raise DataError(
            f"belongs to the source {owner}, not {claimed}.",
            file=home,
            remedy="give each source a home of its own (HOME_FOLDER=, or --home).",
        )
    write_json(mark, {"source": claimed})
    return claimed
