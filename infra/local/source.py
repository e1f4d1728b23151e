"""The last day of a user's log, which is the logical date when none is given."""

import datetime as dt
from pathlib import Path

from jobs.base.errors import DataError
from jobs.base.places import existing_folder
from jobs.base.settings import PipelineSettings
from jobs.landing.land import land


def last_event_date(settings: PipelineSettings, home: Path, *, today: dt.date) -> dt.date:
    """The UTC date of the latest event in the log that is not in the future.

    The source is landed for it in the home, so the run itself need not read it again.

    Args:
        settings: names the source, and says how its times are read.
        home: of the run.
        today: events after this day (UTC) do not count; they will be quarantined.

    Raises:
        DataError: the source cannot be used, or the log holds no event up to today.
    """
    log = land(existing_folder(settings.data.source), settings, home / "landing").tables["interactions"]
    known = [day for day in map(dt.date.fromisoformat, log.days) if day <= today]
    if known:
        return max(known)
    examples = next((part.samples["timestamp"] for part in log.parts if part.samples.get("timestamp")), [])
    raise DataError(
        f"there is no event between 1970 and {today} if times are read in the unit '{settings.data.timestamp_unit}'"
        + (
            f" (as seconds, the first are {', '.join(examples)})."
            if examples
            else "; the column holds no value that is a time."
        ),
        file=log.place,
        column="timestamp",
        remedy='state the unit, such as SET="data.timestamp_unit=ms", or the form of texts in data.yaml, such as '
        "timestamp_format: '%d/%m/%Y %H:%M'.",
    )
