"""Values of CSV and JSON as an Arrow array, each judged by itself; and what is said of values that fit no column."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from jobs.landing import lists
from jobs.landing.contract import Kind

AS_INTEGERS = "store ids as integers or texts (pandas turns integer columns with gaps into floats)."
WITHIN = "name a value within it with a dot in data.yaml, such as columns: {user_id: user.id}."


class WrongType(Exception):
    """The column has a type from which its kind cannot be made.

    Attributes:
        found: name of the type.
        remedy: what to do about it.
        place: which value has it, from 0; None for the whole column.
    """

    def __init__(self, found: str, remedy: str, place: int | None = None) -> None:
        super().__init__(found)
        self.found, self.remedy, self.place = found, remedy, place


class NotText(Exception):
    """A value is not UTF-8.

    Attributes:
        place: which value, from 0.
        value: its bytes.
        remedy: what to do about it.
    """

    def __init__(self, place: int, value: bytes, remedy: str) -> None:
        super().__init__(place)
        self.place, self.value, self.remedy = place, value, remedy


def arrow_of(values: list[Any], kind: Kind) -> pa.Array:
    """One array of the values of CSV or JSON. Each is judged by itself, so it does not matter what stands near it in the file.

    Raises:
        WrongType: a value is a list, an object or a number of which the kind cannot be made.
        NotText: a value is half of a surrogate pair.
    """
    kinds = {type(value) for value in values} - {type(None)}
    if kinds & {list, dict} and kind == "binary":
        remedy = "If it holds lists of paths or URLs, write image_paths: image into data.yaml, under columns."
        raise WrongType("list or object", f"store the encoded picture as bytes in a Parquet file. {remedy}")
    try:
        if kinds <= {str} or kinds == {int} or (kind not in ("id", "text") and kinds in ({float}, {bool})):
            try:
                return pa.array(values)
            except (pa.ArrowInvalid, OverflowError):  # an integer beyond 64 bits
                pass
        made = [None if value is None else _as_text(value, kind, place) for place, value in enumerate(values)]
        return pa.array(made, pa.string())
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write and no text can hold
        for place, value in enumerate(values):
            try:
                str(value).encode()
            except UnicodeEncodeError as error:
                half = "a text was cut in the middle of a character, such as an emoji; cut texts between characters."
                raise NotText(place, str(value).encode("utf-8", "surrogatepass"), half) from error
        raise


def _as_text(value: Any, kind: Kind, place: int) -> str | None:
    """A value of JSON as text."""
    if isinstance(value, str):
        return value
    if kind == "id":
        if isinstance(value, float):
            if value != value:
                return None
            if not value.is_integer() or abs(value) >= 2**53:
                raise WrongType(f"number ({value})", AS_INTEGERS, place)
            return str(int(value))
        if isinstance(value, bool | list | dict):
            remedy = WITHIN if isinstance(value, dict) else "store ids as integers or texts."
            raise WrongType({bool: "true or false", list: "list", dict: "object"}[type(value)], remedy, place)
    if isinstance(value, dict) and kind == "text":
        raise WrongType("object", WITHIN, place)
    if isinstance(value, list) and kind == "text":
        return " ".join(texts_within(value, place))
    return lists.word(value)


def texts_within(values: list[Any], place: int) -> Iterator[str]:
    """The texts of a list, and of the lists in it."""
    for value in values:
        if isinstance(value, list):
            yield from texts_within(value, place)
        elif value is not None:
            yield _as_text(value, "text", place) or ""
