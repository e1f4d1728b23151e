"""Attributes of items as features of the towers: categories by hashed signs, numbers by their logarithm, vectors as they are.

The features depend on an item's own attributes alone, and not on the other items. So a new category needs no new towers, and
the same item has the same features every day. The towers standardise them like any other content.

Shape legend: N items, F features.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

AttributeKind = Literal["text", "texts", "number", "embedding"]

SIGNS = 64  # features of a category: two categories agree in about half of them, so a linear map can tell them apart
_VERSION = "1"  # raise it when the same attributes get other features


@dataclass(frozen=True)
class AttributeEncoder:
    """Turns attributes into features.

    Attributes:
        layout: name of each attribute -> its kind, and how many features it has, in the order of the features.
    """

    layout: dict[str, tuple[AttributeKind, int]]

    @classmethod
    def of(cls, kinds: Mapping[str, AttributeKind], columns: Mapping[str, Sequence[Any]]) -> "AttributeEncoder":
        """The encoder of some attributes. The length of a vector is taken from the items; see `encode` for the columns."""
        widths = {"text": SIGNS, "texts": SIGNS, "number": 1}
        lengths = {
            name: next((len(vector) for vector in columns[name] if vector is not None), 0)
            for name, kind in kinds.items()
            if kind == "embedding"
        }
        return cls({name: (kind, lengths[name] if kind == "embedding" else widths[kind]) for name, kind in kinds.items()})

    @classmethod
    def from_fingerprint(cls, fingerprint: str) -> "AttributeEncoder":
        """Inverse of `fingerprint`. Raises `ValueError` if it is not of this version."""
        version, *parts = fingerprint.split()
        if version != f"attributes-{_VERSION}":
            raise ValueError(f"expected attributes-{_VERSION}, got {version}")
        layout: dict[str, tuple[Any, int]] = {}
        for name, kind, width in (part.split(":") for part in parts):
            layout[name] = kind, int(width)
        return cls(layout)

    @property
    def fingerprint(self) -> str:
        """Which attributes have which features, such as `attributes-1 category:text:64 price:number:1`."""
        return " ".join([f"attributes-{_VERSION}", *(f"{name}:{kind}:{width}" for name, (kind, width) in self.layout.items())])

    def encode(self, columns: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """float32 [N, F], NaN where an item lacks the attribute.

        A category has 64 features of +1 or -1, which its name and that of the attribute decide. Several categories have their
        sum, divided by the root of their number. A number x has the feature sign(x) log(1 + |x|), because prices and counts are
        spread over powers of ten.

        Args:
            columns: each attribute of N items, None where one lacks it: a text; a list of texts; a number; or a vector.

        Raises:
            ValueError: a vector has another length than the encoder expects.
        """
        parts = [self._encoded(name, kind, width, columns[name]) for name, (kind, width) in self.layout.items()]
        return np.concatenate(parts, axis=1)

    def _encoded(self, name: str, kind: AttributeKind, width: int, values: Sequence[Any]) -> np.ndarray:
        if kind == "number":
            numbers = np.array([np.nan if value is None else value for value in values], np.float64)
            return (np.sign(numbers) * np.log1p(np.abs(numbers))).astype(np.float32)[:, None]
        if kind == "embedding":
            return _vectors(name, values, width)
        return _signs(name, [value if value is None or kind == "texts" else [value] for value in values])


def _signs(name: str, rows: Sequence[Sequence[str] | None]) -> np.ndarray:
    """float32 [N, 64], the sum of the signs of each item's categories, divided by the root of their number."""
    known: dict[str, np.ndarray] = {}
    features = np.full((len(rows), SIGNS), np.nan, np.float32)
    for number, row in enumerate(rows):
        if row is None:
            continue
        texts = list(dict.fromkeys(row))
        for text in texts:
            if text not in known:
                known[text] = _signs_of(f"{name}={text}")
        features[number] = sum((known[text] for text in texts), np.zeros(SIGNS, np.float32)) / np.sqrt(max(1, len(texts)))
    return features


def _signs_of(text: str) -> np.ndarray:
    """float32 [64], +1 or -1 each, the same on every machine."""
    digest = hashlib.blake2b(text.encode(), digest_size=SIGNS // 8).digest()
    return np.unpackbits(np.frombuffer(digest, np.uint8)).astype(np.float32) * 2 - 1


def _vectors(name: str, rows: Sequence[Any], width: int) -> np.ndarray:
    features = np.full((len(rows), width), np.nan, np.float32)
    for number, row in enumerate(rows):
        if row is None:
            continue
        if len(row) != width:
            raise ValueError(f"{name}: expected vectors of length {width}, but that of item row {number} has {len(row)}")
        features[number] = row
    return features
