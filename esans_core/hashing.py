"""A uniform number that depends only on an integer and a seed, so that every caller gets the same number."""

import torch
from torch import Tensor

_WORD = 1 << 64
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_BITS = 24  # a float32 holds integers of so many bits exactly


def uniform_hash(values: Tensor, seed: int) -> Tensor:
    """Pseudo-random numbers in [0, 1), one for each integer (the finaliser of splitmix64; Steele et al. 2014).

    Args:
        values: int64 of any shape.
        seed: another seed gives other numbers.

    Returns:
        float32 of the same shape and device; equal values get equal numbers, on every device and in every process.
    """
    x = _mixed(values + _signed(seed * _GOLDEN))
    # Mixed twice, because neighbouring seeds differ only by one addition.
    return _high(_mixed(x + _signed(_GOLDEN)), 64 - _BITS).to(torch.float32) * 2.0**-_BITS


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _high(x, 30)) * _signed(_FIRST)
    x = (x ^ _high(x, 27)) * _signed(_SECOND)
    return x ^ _high(x, 31)


def _high(x: Tensor, shift: int) -> Tensor:
    """Logical shift to the right; torch's own shift keeps the sign."""
    return (x >> shift) & ((1 << (64 - shift)) - 1)


def _signed(word: int) -> int:
    word %= _WORD
    return word - _WORD if word >= _WORD // 2 else word
