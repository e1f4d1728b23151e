"""What a query says of users beside their histories, checked and turned into the features that the model was trained with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from esans_core.attributes import AttributeEncoder, AttributeKind

_EXPECTED: dict[AttributeKind, str] = {
    "text": 'a text, such as "DE"',
    "texts": 'a list of texts, such as ["shoes", "hats"]',
    "number": "a number",
    "embedding": "a list of {width} numbers",
}


def encoded_users(users: Sequence[Mapping[str, Any] | None], encoder: AttributeEncoder | None) -> np.ndarray:
    """float32 [U, G], the features of users, NaN where an attribute is missing or None.

    Args:
        users: of each user, attribute -> value: a text, a list of texts, a number, or a list of numbers. None: not known.
        encoder: of the users' attributes of a bundle; None if it has none.

    Raises:
        ValueError: an attribute is not there, or its value has the wrong type; it says what there is.
    """
    layout = {} if encoder is None else encoder.layout
    columns: dict[str, list[Any]] = {name: [None] * len(users) for name in layout}
    there = ", ".join(f"{name} ({kind})" for name, (kind, _) in layout.items()) or "none"
    for number, user in enumerate(users):
        if user is None:
            continue
        if not isinstance(user, Mapping):
            raise ValueError(f"user {number}: expected attributes with values, got {str(user)[:80]!r}; attributes: {there}")
        for name, value in user.items():
            if name not in layout:
                raise ValueError(f"user {number}: users have no attribute {str(name)[:80]!r}; attributes: {there}")
            kind, width = layout[name]
            if value is not None and not _fits(value, kind, width):
                expected = _EXPECTED[kind].format(width=width)
                raise ValueError(f"user {number}: {name} takes {expected}; got {str(value)[:80]!r}")
            columns[name][number] = value
    if encoder is None or not layout:
        return np.empty((len(users), 0), np.float32)
    return encoder.encode(columns)


def _fits(value: Any, kind: AttributeKind, width: int) -> bool:
    if kind == "text":
        return isinstance(value, str)
    if kind == "number":
        return _is_number(value)
    if not isinstance(value, list | tuple):
        return False
    if kind == "texts":
        return all(isinstance(text, str) for text in value)
    return len(value) == width and all(_is_number(number) for number in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
