"""Brings the values of a column, whatever their type, to the form that its kind has in the contract."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jobs.landing import lists
from jobs.landing.contract import LANDED, UNITS_PER_SECOND, Column

# Words that tools write where a value is missing. Taken as ids, they would make one user of all who have none.
NULL_WORDS = ("nan", "NaN", "None", "NULL", "null", "<NA>", "NaT", "N/A", "#N/A", "\\N", "undefined")
_TRUE, _FALSE = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")
_SECONDS_LIMIT = 2**40  # about the year 36,800: beyond it, a number is no time in any reading


@dataclass(frozen=True)
class TimeRule:
    """How times are read: the unit of numbers, the form of texts ('' for ISO), and the zone of those that name none."""

    unit: str
    form: str = ""
    zone: str = "UTC"


@dataclass
class Told:
    """What a conversion noticed, counted in rows."""

    null_words: int = 0
    unreadable: int = 0
    example: str = ""


class WrongType(Exception):
    """The column has a type from which its kind cannot be made.

    Attributes:
        found: name of the type.
        remedy: what to do about it.
    """

    def __init__(self, found: str, remedy: str) -> None:
        super().__init__(found)
        self.found, self.remedy = found, remedy


class NotText(Exception):
    """A value is not UTF-8.

    Attributes:
        place: which value, from 0.
        value: its bytes.
    """

    def __init__(self, place: int, value: bytes) -> None:
        super().__init__(place)
        self.place, self.value = place, value


def convert(column: Column, values: pa.ChunkedArray | pa.Array | list[Any], times: TimeRule) -> tuple[pa.Array, Told]:
    """The values of a column in the form of the contract.

    Args:
        column: of the contract.
        values: as the source gives them: an Arrow array, or values of JSON or CSV.
        times: how times are read.

    Returns:
        An array of the type `LANDED[column.kind]`, and what was noticed. Blank ids are null.

    Raises:
        WrongType: the type does not fit the kind.
        NotText: a text is not UTF-8.
    """
    array = _array(lists.in_lists(values) if column.kind in ("texts", "embedding") and isinstance(values, list) else values)
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), LANDED[column.kind]), Told()
    told = Told()
    if column.kind == "binary":
        return _binary(array), told
    if pa.types.is_string(array.type):
        _check_utf8(array)
        words = pc.is_in(array, value_set=pa.array(NULL_WORDS))
        told.null_words = pc.sum(words).as_py() or 0
        if told.null_words:
            array = pc.if_else(words, pa.scalar(None, pa.string()), array)
    if column.kind in ("texts", "embedding"):
        made = _lists(column, array, times)
    else:
        made = {"id": _ids, "timestamp": _seconds, "number": _numbers, "flag": _flags, "text": _texts}[column.kind](
            array, times
        )
    if column.kind != "id":  # a blank id is counted as missing where rows are judged
        lost = pc.and_(pc.is_valid(array), pc.is_null(made))
        told.unreadable = pc.sum(lost).as_py() or 0
        if told.unreadable:
            told.example = str(array[pc.index(lost, True).as_py()].as_py())
    return made, told


def _array(values: pa.ChunkedArray | pa.Array | list[Any]) -> pa.Array:
    """One array, in which texts are strings, whatever way they were encoded."""
    if isinstance(values, list):
        values = _of_python(values)
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return array


def _of_python(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {str} or kinds == {int} or kinds == {float} or kinds == {bool}:
        try:
            return pa.array(values)
        except (pa.ArrowInvalid, OverflowError):  # an integer beyond 64 bits
            pass
    if kinds == {list}:
        return pa.array([None if value is None else [_as_text(part) for part in value] for value in values])
    return pa.array([None if value is None else _as_text(value) for value in values], pa.string())


def _as_text(value: Any) -> str:
    """A value of JSON as text. A whole number that was written with a fraction of zero stays as it was written."""
    return value if isinstance(value, str) else "true" if value is True else "false" if value is False else str(value)


def _check_utf8(array: pa.Array) -> None:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        for place, value in enumerate(array.cast(pa.binary()).to_pylist()):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                raise NotText(place, value) from error
        raise


def _ids(array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    if pa.types.is_floating(kind):  # pandas makes floats of integers as soon as one is missing
        numbers = array.to_numpy(zero_copy_only=False).astype("float64")
        there = ~np.isnan(numbers)
        if (numbers[there] != np.floor(numbers[there])).any() or (np.abs(numbers[there]) >= 2**53).any():
            raise WrongType(str(kind), "store ids as integers or texts (pandas turns integer columns with gaps into floats).")
        whole = pa.array(np.where(there, numbers, 0).astype("int64"), mask=~there)
        return whole.cast(pa.string())
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return array.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        array = array.cast(pa.binary())
        text = pa.Array.from_buffers(pa.string(), len(array), array.buffers(), array.null_count, array.offset)
        _check_utf8(text)
        return _ids(text, times)
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
        raise WrongType(str(kind), "store ids as integers or texts.")
    text = array.cast(pa.string())
    return pc.if_else(pc.not_equal(pc.utf8_trim_whitespace(text), ""), text, pa.scalar(None, pa.string()))


def _seconds(array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    if pa.types.is_integer(kind):
        numbers = array.cast(pa.int64(), safe=False) if pa.types.is_uint64(kind) else array.cast(pa.int64())
        return _whole(numbers.fill_null(0).to_numpy() // UNITS_PER_SECOND[times.unit], ~pc.is_valid(array).to_numpy(False))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _of_floats(array.cast(pa.float64()).to_numpy(zero_copy_only=False), times)
    if pa.types.is_date(kind):
        array, kind = array.cast(pa.timestamp("s")), pa.timestamp("s")
    if pa.types.is_timestamp(kind):
        per = UNITS_PER_SECOND[kind.unit]
        if kind.tz is None and times.zone != "UTC":
            array = pc.assume_timezone(array, times.zone, ambiguous="earliest", nonexistent="latest")
        numbers = array.cast(pa.timestamp(kind.unit)).cast(pa.int64()) if array.type.tz else array.cast(pa.int64())
        return _whole(numbers.fill_null(0).to_numpy() // per, ~pc.is_valid(numbers).to_numpy(False))
    if pa.types.is_string(kind):
        return _of_texts(array, times)
    raise WrongType(str(kind), "give Unix times as numbers, or timestamps.")


def _of_texts(array: pa.Array, times: TimeRule) -> pa.Array:
    """Seconds of texts: numbers in the unit of the rule, or dates and times in its form or that of ISO 8601."""
    texts = array.to_pandas().astype("object")
    numbers = np.full(len(texts), np.nan)
    if not times.form:
        numbers = pd.to_numeric(texts, errors="coerce").to_numpy("float64", na_value=np.nan)
    seconds = _of_floats(numbers, times)
    left = np.isnan(numbers) & texts.notna().to_numpy()
    if not left.any():
        return seconds
    given = texts[left].str.strip().str.replace(r"\s*(?:UTC|GMT)$", "+00:00", regex=True)
    if times.form:
        parsed = pd.to_datetime(given, format=times.form, errors="coerce", utc=times.zone == "UTC")
    else:
        parsed = pd.to_datetime(given, format="ISO8601", errors="coerce", utc=times.zone == "UTC")
    if times.zone != "UTC":
        parsed = _in_zone(given, parsed, times)
    known = parsed.notna().to_numpy()
    made = np.zeros(len(texts), "int64")
    made[np.flatnonzero(left)[known]] = parsed[known].astype("datetime64[ns, UTC]").astype("int64") // 1_000_000_000
    mask = np.ones(len(texts), bool)
    mask[np.flatnonzero(left)[known]] = False
    return pc.coalesce(seconds, pa.array(made, mask=mask))


def _in_zone(given: pd.Series, parsed: pd.Series, times: TimeRule) -> pd.Series:
    """Times of which those without an offset lie in the zone of the rule, in UTC."""
    if isinstance(parsed.dtype, pd.DatetimeTZDtype):
        return parsed.dt.tz_convert("UTC")
    if parsed.dtype == object:  # some texts name an offset and some do not
        parsed = parsed.map(lambda value: value if value is pd.NaT or value.tzinfo is None else value.tz_convert("UTC"))
        naive = parsed.map(lambda value: value is pd.NaT or value.tzinfo is None)
        local = _in_zone(given[naive], pd.to_datetime(parsed[naive]), times)
        return pd.concat([local, pd.to_datetime(parsed[~naive], utc=True)]).reindex(parsed.index)
    zoned = parsed.dt.tz_localize(times.zone, ambiguous=np.ones(len(parsed), bool), nonexistent="shift_forward")
    return zoned.dt.tz_convert("UTC")


def _of_floats(numbers: np.ndarray, times: TimeRule) -> pa.Array:
    with np.errstate(invalid="ignore"):
        seconds = np.floor(numbers / UNITS_PER_SECOND[times.unit])
        sane = np.abs(seconds) < _SECONDS_LIMIT * 1_000_000  # times in another unit stay, so that a message can name the unit
    return pa.array(np.where(sane, seconds, 0).astype("int64"), mask=~sane)


def _whole(seconds: np.ndarray, missing: np.ndarray) -> pa.Array:
    return pa.array(seconds.astype("int64"), mask=missing)


def _numbers(array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    if pa.types.is_string(kind):
        numbers = pd.to_numeric(array.to_pandas().astype("object"), errors="coerce").to_numpy("float64", na_value=np.nan)
        return pa.array(numbers, from_pandas=True)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind)):
        raise WrongType(str(kind), "give numbers.")
    if pa.types.is_boolean(kind):
        array = array.cast(pa.int8())
    numbers = array.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def _flags(array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    if pa.types.is_boolean(kind):
        return array
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return pc.not_equal(array, 0)
    if not pa.types.is_string(kind):
        raise WrongType(str(kind), "give true or false.")
    words = pc.utf8_lower(pc.utf8_trim_whitespace(array))
    known = pc.is_in(words, value_set=pa.array([*_TRUE, *_FALSE]))
    return pc.if_else(known, pc.is_in(words, value_set=pa.array(_TRUE)), pa.scalar(None, pa.bool_()))


def _texts(array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    if pa.types.is_string(kind):
        return array
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        parts = [
            None if value is None else " ".join(str(part) for part in value if part is not None) for value in array.to_pylist()
        ]
        return pa.array(parts, pa.string())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.string())
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return array.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _ids(array, times)
    raise WrongType(str(kind), "give texts.")


def _lists(column: Column, array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    plain = not (pa.types.is_nested(kind) or pa.types.is_string(kind))
    if lists.is_list(kind) and pa.types.is_nested(kind.value_type):
        raise WrongType(str(kind), f"give lists of {'texts' if column.kind == 'texts' else 'numbers'}.")
    if column.kind == "texts" and (lists.is_list(kind) or pa.types.is_string(kind) or plain):
        return lists.texts(array if not plain else pa.array([[v] if v else None for v in _texts(array, times).to_pylist()]))
    if column.kind == "embedding" and (lists.is_list(kind) or pa.types.is_string(kind)):
        return lists.vectors(array)
    raise WrongType(str(kind), f"give {'lists of texts' if column.kind == 'texts' else 'lists of numbers'}.")


def _binary(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type):
        raise WrongType("string", "store the encoded picture as bytes, or name a column of file names image_path.")
    if not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type)):
        raise WrongType(str(array.type), "store the encoded picture as bytes.")
    return array.cast(pa.binary())


def as_scalar(column: Column, value: str | float | bool | Decimal, times: TimeRule) -> pa.Scalar:
    """One value of `data.yaml` in the form of the contract."""
    made, _ = convert(column, [value], times)
    return made[0]
