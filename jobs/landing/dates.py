"""The last day of a landed log, which is the logical date when none is given."""

import datetime as dt

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.landing.records import Landing


def last_event_date(landing: Landing, settings: PipelineSettings, *, today: dt.date) -> dt.date:
    """The UTC date of the latest event in the log that is not in the future.

    Args:
        landing: of the source.
        settings: say how times are read, for the message.
        today: events after this day (UTC) do not count; they will be quarantined.

    Raises:
        DataError: the log holds no event up to today.
    """
    log = landing.tables["interactions"]
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
