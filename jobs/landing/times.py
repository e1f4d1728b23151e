"""Brings times of any type to Unix seconds in UTC."""

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jobs.base.settings import PipelineSettings
from jobs.landing.contract import NANOSECONDS
from jobs.landing.table_mapping import TableMapping

_SECONDS_LIMIT = 2**40 * 1_000_000  # times in another unit stay, so that a message can name the unit
_WHOLE_NUMBER = r"^[+-]?(?:[0-9]{1,18}|[1-8][0-9]{18})$"  # parsed as integers, because a float cannot hold nanoseconds
_OFFSET = r"[T ][0-9]{1,2}:.*(?:[Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)$"
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


_SECOND = NANOSECONDS["s"]


@dataclass(frozen=True)
class TimeRule:
    """How times are read.

    Attributes:
        unit: of numbers, a key of `NANOSECONDS`.
        form: of texts, as strptime takes it; empty for ISO 8601.
        zone: of times that name none.
        origin: the moment from which numbers count, in Unix seconds; None for Unix time.
    """

    unit: str
    form: str = ""
    zone: str = "UTC"
    origin: int | None = None

    @classmethod
    def of(cls, mapping: TableMapping, settings: PipelineSettings) -> "TimeRule":
        """How the times of a table are read."""
        origin = None if mapping.timestamp_origin is None else int(mapping.timestamp_origin.timestamp())
        unit = mapping.timestamp_unit or settings.data.timestamp_unit
        return cls(unit, mapping.timestamp_format, mapping.timezone, origin)


def shown(seconds: int) -> str:
    """A moment in words; one before the year 1 or after 9999, which no calendar here has, by its seconds."""
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds of Unix time, outside the years 1 to 9999"


def to_seconds(array: pa.Array, rule: TimeRule) -> pa.Array | None:
    """Unix seconds (UTC, rounded down) as int64, null where a value is no time; None if the type cannot hold times.

    Args:
        array: numbers, dates, timestamps or texts.
        rule: how they are read. Its form holds for numbers too, as in `%Y%m%d`.
    """
    kind = array.type
    if rule.form and (pa.types.is_integer(kind) or (pa.types.is_decimal(kind) and kind.scale == 0)):
        return _of_texts(array.cast(pa.string()), rule)
    if pa.types.is_decimal(kind) and kind.scale == 0:
        try:
            array, kind = array.cast(pa.int64()), pa.int64()
        except pa.ArrowInvalid:  # beyond 64 bits: no time in any unit
            return _of_floats(array.cast(pa.float64()).to_numpy(zero_copy_only=False), rule)
    if pa.types.is_integer(kind):
        return _of_integers(array.cast(pa.int64(), safe=False), rule)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _of_floats(array.cast(pa.float64()).to_numpy(zero_copy_only=False), rule)
    if pa.types.is_date(kind):
        array, kind = array.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind):
        if kind.tz is None and rule.zone != "UTC":
            array = pc.assume_timezone(array, rule.zone, ambiguous="earliest", nonexistent="latest")
        return _of_integers(array.cast(pa.timestamp(kind.unit, array.type.tz)).cast(pa.int64()), TimeRule(kind.unit))
    return _of_texts(array, rule) if pa.types.is_string(kind) else None


def _of_integers(numbers: pa.Array, rule: TimeRule) -> pa.Array:
    values, missing = numbers.fill_null(0).to_numpy(), pc.is_null(numbers).to_numpy(zero_copy_only=False)
    times, by = _factors(rule.unit)
    if times > 1:  # what is no time, and whose product might not fit into 64 bits
        missing = missing | (values > _SECONDS_LIMIT // times) | (values < -_SECONDS_LIMIT // times)
    seconds = np.where(missing, 0, values) * times // by + (rule.origin or 0)
    return pa.array(seconds, pa.int64(), mask=missing)


def _of_floats(numbers: np.ndarray, rule: TimeRule) -> pa.Array:
    times, by = _factors(rule.unit)
    with np.errstate(invalid="ignore", over="ignore"):
        seconds = np.floor(numbers * times / by)
        sane = np.abs(seconds) < _SECONDS_LIMIT
    return pa.array(np.where(sane, seconds, 0).astype("int64") + (rule.origin or 0), mask=~sane)


def _factors(unit: str) -> tuple[int, int]:
    """By what a number is multiplied and divided to give seconds; one of them is 1."""
    return max(NANOSECONDS[unit] // _SECOND, 1), max(_SECOND // NANOSECONDS[unit], 1)


def _of_texts(array: pa.Array, rule: TimeRule) -> pa.Array:
    """Seconds of texts: numbers in the unit of the rule, or dates and times in its form or that of ISO 8601."""
    array = pc.utf8_trim_whitespace(array)
    if rule.form:
        return pa.array(_parsed(array.to_pandas().astype("object").dropna(), rule).reindex(range(len(array))))
    whole = pc.match_substring_regex(array, _WHOLE_NUMBER)
    digits = pc.utf8_ltrim(pc.if_else(whole, array, pa.scalar(None, pa.string())), "+")
    found = [_of_integers(digits.cast(pa.int64()), rule)]
    rest = array.to_pandas().astype("object")[~whole.fill_null(True).to_numpy(zero_copy_only=False)]
    if len(rest):
        numbers = pd.to_numeric(rest, errors="coerce").reindex(range(len(array))).to_numpy("float64")
        seconds = _of_floats(numbers, rule)
        times = _parsed(rest[np.isnan(numbers[rest.index])], rule).reindex(range(len(array)))
        found += [seconds, pa.array(times, pa.int64())]
    return pc.coalesce(*found)


def _parsed(texts: pd.Series, rule: TimeRule) -> pd.Series:
    """Seconds as Int64, NA where a text is no time; the index is that of the texts."""
    if rule.form:
        zoned = pd.Series("%z" in rule.form.lower(), texts.index)
        form = rule.form
    else:
        texts = texts.str.replace(r"\s*(?:UTC|GMT|z)$", "+00:00", regex=True)
        zoned, form = texts.str.contains(_OFFSET, regex=True), "ISO8601"
    aware = pd.to_datetime(texts[zoned], format=form, errors="coerce", utc=True)
    naive = pd.to_datetime(texts[~zoned], format=form, errors="coerce").astype("datetime64[ns]")
    local = naive.dt.tz_localize(rule.zone, ambiguous=np.ones(len(naive), bool), nonexistent="shift_forward")
    times = pd.concat([aware.astype("datetime64[ns, UTC]"), local.dt.tz_convert("UTC")]).reindex(texts.index)
    seconds = (times.astype("int64") // 1_000_000_000).astype("Int64").mask(times.isna())
    left = texts[times.isna() & texts.str.match(r"[0-9]{4}")]  # pandas knows the years from 1677 to 2262
    if len(left):
        seconds[left.index] = pd.array([_far_away(text, rule) for text in left], "Int64")
    return seconds


def _far_away(text: str, rule: TimeRule) -> int | None:
    try:
        found = dt.datetime.strptime(text, rule.form) if rule.form else dt.datetime.fromisoformat(text)
        found = found.replace(tzinfo=found.tzinfo or ZoneInfo(rule.zone))
        return (found - _EPOCH) // dt.timedelta(seconds=1)
    except (ValueError, OverflowError):
        return None
