"""Random numbers that depend on what they are for, not on the order in which they are drawn.

`uniform(seed, "price", 7)` is the same number however many other numbers exist. So a catalogue can grow from day to day, and
every item that was there keeps all its properties. The mixing function is splitmix64 (Steele, Lea, Flood 2014).
"""

import zlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hashed(seed: int, stream: str, *keys: ArrayLike) -> NDArray[np.uint64]:
    """64 random bits for each element of the broadcast keys.

    Args:
        seed: seed of the world.
        stream: what the number is for; streams are independent.
        keys: whole numbers or integer arrays (item numbers, days, ...), broadcast against each other.
    """
    # All are arrays of at least one dimension, because numpy warns if a scalar wraps around, which is intended here.
    state: Any = _mix(np.array([seed], dtype=np.uint64) + np.array([zlib.crc32(stream.encode())], dtype=np.uint64) * _GOLDEN)
    for key in keys:
        state = _mix(state + _GOLDEN + np.atleast_1d(key).astype(np.int64).astype(np.uint64) * _GOLDEN)
    return state


def uniform(seed: int, stream: str, *keys: ArrayLike) -> NDArray[np.float64]:
    """As `hashed`, but numbers in [0, 1)."""
    return (hashed(seed, stream, *keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
