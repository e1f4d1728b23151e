"""The last day of a landed log, which is the logical date when none is given, and whether its times can be times at all."""

import datetime as dt
from collections.abc import Mapping

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.landing.contract import NANOSECONDS
from jobs.landing.mapping import DataMapping
from jobs.landing.records import Landing
from jobs.landing.times import TimeRule, shown

_FIRST, _LAST = dt.date(1980, 1, 1), dt.date(2100, 1, 1)  # logs of people's actions lie between them
_UNIX = ("s", "ms", "us", "ns")
_ORIGIN = (
    "if they count from a start, or only tell an order, write timestamp_origin: 2020-01-01 (a day of your choice) into "
    "data.yaml, under interactions; else check the export and data.timestamp_unit."
)


def last_event_date(landing: Landing, settings: PipelineSettings, *, today: dt.date) -> dt.date:
    """The UTC date of the latest event in the log that is not in the future.

    Args:
        landing: of the source.
        settings: say how times are read, for the message.
        today: events after this day (UTC) do not count; they will be quarantined.

    Raises:
        DataError: the log holds no event up to today, or its times make no sense.
    """
    log = landing.tables["interactions"]
    days = {day: count for day, count in log.days.items() if dt.date.fromisoformat(day) <= today}
    examples = next((part.samples["timestamp"] for part in log.parts if part.samples.get("timestamp")), [])
    if days:
        median = _seconds(dt.date.fromisoformat(_median(days)))
        if not _sane(median):  # then a value tells more than its day
            check_times(next((int(value) for value in examples if not _sane(int(value))), median), landing, settings)
        return dt.date.fromisoformat(max(days))
    if not examples:  # what landing says of the values that it could not read names the first of them
        told = " ".join(each for part in log.parts for each in part.told if " values of timestamp " in each)
        raise DataError(
            f"the column holds no value that is a time. {told}".rstrip(),
            file=log.place,
            column="timestamp",
            remedy="say in data.yaml, under interactions, in which form the times are, such as "
            "timestamp_format: '%d/%m/%Y %H:%M'.",
        )
    raise DataError(
        f"there is no event between 1970 and {today} if times are read in the unit '{rule_of(landing, settings).unit}' "
        f"(as seconds, the first are {', '.join(examples)}).",
        file=log.place,
        column="timestamp",
        remedy='state the unit, such as SET="data.timestamp_unit=ms".',
    )


def check_times(median: int, landing: Landing, settings: PipelineSettings) -> None:
    """Check that the median of a log's times, in Unix seconds, lies in years that a log can have.

    Raises:
        DataError: it does not. The message guesses what the values are: dates, numbers in another unit, or numbers that count
            from a start.
    """
    if _sane(median):
        return
    rule = rule_of(landing, settings)
    raw = (median - (rule.origin or 0)) * NANOSECONDS["s"] / NANOSECONDS[rule.unit]
    place = {"file": landing.tables["interactions"].place, "column": "timestamp"}
    if rule.origin is not None:
        start = shown(rule.origin).partition("T")[0]
        raise DataError(
            f"the median value is about {raw:.4g}. Counted from {start} in '{rule.unit}', it lies outside the years "
            f"{_FIRST.year} to {_LAST.year}.",
            remedy="correct timestamp_origin or timestamp_unit in data.yaml.",
            **place,
        )
    if rule.unit == "s" and looks_like_date(median):
        raise DataError(
            f"the values look like dates, such as {median}, and not like Unix times.",
            remedy="write timestamp_format: '%Y%m%d' into data.yaml, under interactions.",
            **place,
        )
    fits = [unit for unit in _UNIX if _sane(raw * NANOSECONDS[unit] / NANOSECONDS["s"])]
    raise DataError(
        f"the median value is about {raw:.4g}. Read as '{rule.unit}', it lies outside the years {_FIRST.year} to {_LAST.year}"
        + (f"; read as '{fits[0]}', it makes sense." if fits else ", and in no unit (s, ms, us) do these values make sense."),
        remedy=f"set data.timestamp_unit to '{fits[0]}'." if fits else _ORIGIN,
        **place,
    )


def looks_like_date(value: int) -> bool:
    """Whether a number reads as a date of these years, such as 20260128."""
    try:
        return _FIRST <= dt.datetime.strptime(str(value), "%Y%m%d").date() < _LAST
    except ValueError:
        return False


def is_sane(day: str) -> bool:
    """Whether a day, in ISO 8601, lies in years that a log can have."""
    return _FIRST <= dt.date.fromisoformat(day) < _LAST


def rule_of(landing: Landing, settings: PipelineSettings) -> TimeRule:
    """How the times of the (first) log were read."""
    return TimeRule.of(DataMapping.model_validate(landing.mapping).interactions[0], settings)


def _sane(seconds: float) -> bool:
    return _seconds(_FIRST) <= seconds < _seconds(_LAST)


def _seconds(day: dt.date) -> int:
    return int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())


def _median(counts: Mapping[str, int]) -> str:
    left = sum(counts.values()) / 2
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    raise ValueError("there is nothing to take a median of")
