"""Brings the values of a column, whatever their type, to the form that its kind has in the contract."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from jobs.landing import lists
from jobs.landing.contract import LANDED, Column, Kind
from jobs.landing.python_values import AS_INTEGERS, WITHIN, NotText, WrongType, arrow_of, texts_within
from jobs.landing.times import TimeRule, to_seconds

# Words that tools write where a value is missing. Taken as ids, they would make one user of all who have none.
NULL_WORDS: tuple[str, ...] = ("nan", "NaN", "NAN", "-nan", "None", "none", "NONE", "NULL", "null", "Null", "NA", "<NA>", "NaT")
NULL_WORDS += ("N/A", "n/a", "#N/A", "\\N", "undefined")
# Words for what is so and what is not, in small letters, without blanks, lines and the address of schema.org.
_TRUE = ("true", "t", "yes", "y", "instock", "available")
_FALSE = ("false", "f", "no", "n", "outofstock", "soldout", "unavailable", "discontinued")


@dataclass
class Told:
    """What a conversion noticed, counted in rows."""

    null_words: int = 0
    unreadable: int = 0
    example: str = ""


def convert(
    column: Column, values: pa.ChunkedArray | pa.Array | list[Any], times: TimeRule, separator: str = lists.SEPARATOR
) -> tuple[pa.Array, Told]:
    """The values of a column in the form of the contract.

    Args:
        column: of the contract.
        values: as the source gives them: an Arrow array, or values of JSON or CSV.
        times: how times are read.
        separator: between the elements of a list that is a text.

    Returns:
        An array of the type `LANDED[column.kind]`, and what was noticed. Blank ids are null.

    Raises:
        WrongType: the type does not fit the kind.
        NotText: a text is not UTF-8.
    """
    if column.name == "image_path" and lists.holds_several(values):
        raise WrongType("list of several", "write image_paths: image_path into data.yaml, under columns.")
    if column.kind in ("texts", "embedding") and isinstance(values, list):
        values = lists.of_python(values, separator)
    array = _array(arrow_of(values, column.kind) if isinstance(values, list) else values, column.kind)
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
        made = _lists(column, array, times, separator)
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


def _array(values: pa.ChunkedArray | pa.Array, kind: Kind) -> pa.Array:
    """One array, in which texts are strings, whatever way they were encoded."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if isinstance(array, pa.ExtensionArray):
        is_uuid = array.type.extension_name == "arrow.uuid"
        array = pa.array([value and str(value) for value in array.to_pylist()], pa.string()) if is_uuid else array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    if pa.types.is_large_binary(array.type) or pa.types.is_binary_view(array.type):
        array = array.cast(pa.binary())
    if pa.types.is_binary(array.type) and kind != "binary":  # some writers do not say that these bytes are text
        array = pa.Array.from_buffers(pa.string(), len(array), array.buffers(), array.null_count, array.offset)
    return array


def _check_utf8(array: pa.Array) -> None:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        for place, value in enumerate(array.cast(pa.binary()).to_pylist()):
            try:
                (value or b"").decode()
            except UnicodeDecodeError as error:
                remedy = "write the column again as UTF-8 (these bytes look like Latin-1 or Windows-1252)."
                raise NotText(place, value, remedy) from error
        raise


def _ids(array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    if pa.types.is_floating(kind):  # pandas makes floats of integers as soon as one is missing
        exact = 2 ** {16: 11, 32: 24, 64: 53}[kind.bit_width]  # from here on, two integers may be the same float
        numbers = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        there = ~np.isnan(numbers)
        if (numbers[there] != np.floor(numbers[there])).any() or (np.abs(numbers[there]) >= exact).any():
            raise WrongType(str(kind), AS_INTEGERS)
        whole = pa.array(np.where(there, numbers, 0).astype("int64"), mask=~there)
        return whole.cast(pa.string())
    if pa.types.is_decimal(kind) and kind.scale == 0:
        return array.cast(pa.string())
    if pa.types.is_decimal(kind):
        given = array.to_pylist()
        if any(value is not None and value != int(value) for value in given):
            raise WrongType(str(kind), "store ids as integers or texts.")
        return pa.array([None if value is None else str(int(value)) for value in given], pa.string())
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
        raise WrongType(str(kind), WITHIN if pa.types.is_struct(kind) else "store ids as integers or texts.")
    text = array.cast(pa.string())
    return pc.if_else(pc.not_equal(pc.utf8_trim_whitespace(text), ""), text, pa.scalar(None, pa.string()))


def _seconds(array: pa.Array, times: TimeRule) -> pa.Array:
    if times.origin is not None and (pa.types.is_timestamp(array.type) or pa.types.is_date(array.type)):
        raise WrongType(str(array.type), "take timestamp_origin out of data.yaml; these are times, not numbers.")
    made = to_seconds(array, times)
    if made is None:
        raise WrongType(str(array.type), "give Unix times as numbers, or timestamps.")
    return made


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
    if pa.types.is_nested(kind) or pa.types.is_temporal(kind) or pa.types.is_binary(kind):
        raise WrongType(str(kind), "give true or false, or a number of pieces in stock.")
    in_stock = pc.greater(_numbers(array, times), 0)  # shops write less than nothing for what is ordered and not yet there
    if not pa.types.is_string(kind):
        return in_stock
    words = pc.replace_substring_regex(pc.utf8_lower(array), r"^\s*https?://schema\.org/|[\s_-]+", "")
    known = pc.is_in(words, value_set=pa.array([*_TRUE, *_FALSE]))
    return pc.if_else(known, pc.is_in(words, value_set=pa.array(_TRUE)), in_stock)


def _texts(array: pa.Array, times: TimeRule) -> pa.Array:
    kind = array.type
    if pa.types.is_string(kind):
        return array
    if lists.is_list(kind):
        given = enumerate(array.to_pylist())
        joined = [None if value is None else " ".join(texts_within(value, place)) for place, value in given]
        return pa.array(joined, pa.string())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.string())
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return array.cast(pa.string())
    raise WrongType(str(kind), WITHIN if pa.types.is_struct(kind) else "give texts.")


def _lists(column: Column, array: pa.Array, times: TimeRule, separator: str) -> pa.Array:
    kind = array.type
    plain = not (pa.types.is_nested(kind) or pa.types.is_string(kind))
    if lists.is_list(kind) and pa.types.is_nested(kind.value_type):
        raise WrongType(str(kind), f"give lists of {'texts' if column.kind == 'texts' else 'numbers'}.")
    if column.kind == "texts" and (lists.is_list(kind) or pa.types.is_string(kind) or plain):
        given = array if not plain else pa.array([[v] if v else None for v in _texts(array, times).to_pylist()])
        return lists.texts(given, separator)
    if column.kind == "embedding" and (lists.is_list(kind) or pa.types.is_string(kind)):
        return lists.vectors(array)
    raise WrongType(str(kind), f"give {'lists of texts' if column.kind == 'texts' else 'lists of numbers'}.")


_BYTES = "store the encoded picture as bytes"


def _binary(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type):
        raise WrongType(
            "string", f"{_BYTES}. If it holds paths or URLs, write image_path: image into data.yaml, under columns."
        )
    if pa.types.is_struct(array.type):
        raise WrongType(
            str(array.type), f"{_BYTES}. If they lie within, write image: image.bytes into data.yaml, under columns."
        )
    if lists.is_list(array.type):
        raise WrongType(
            str(array.type), f"{_BYTES}. If it holds lists of paths, write image_paths: image into data.yaml, under columns."
        )
    if not pa.types.is_binary(array.type):
        raise WrongType(str(array.type), f"{_BYTES}.")
    return array


def as_scalar(column: Column, value: str | float | bool | Decimal, times: TimeRule) -> pa.Scalar:
    """One value of `data.yaml` in the form of the contract."""
    made, _ = convert(column, [value], times)
    return made[0]
