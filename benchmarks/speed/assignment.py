"""Throughput of the exact nearest-code kernel against the machine's own single-precision matrix product, in the same run."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmarks.measure import beside, seconds
from benchmarks.record import Row
from esans_core.clusters.nearest import nearest_codes

ESANS, NUMPY, TORCH = "nearest_codes", "numpy sgemm", "torch sgemm"


@dataclass(frozen=True)
class Size:
    """Attributes: (N vectors, K codes, D dimensions) of each case; side of the large square product; repeats."""

    shapes: tuple[tuple[int, int, int], ...] = ((200_000, 128, 64), (100_000, 1024, 64), (100_000, 256, 192))
    square: int = 4096
    repeats: int = 7


FULL = Size()
QUICK = Size(((50_000, 128, 64), (20_000, 1024, 64)), square=2048, repeats=5)


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """GFLOP/s, where each assignment counts as 2 N K D; no peers are needed. Peaks are measured in the same rounds."""
    random = np.random.default_rng(0)
    square = random.standard_normal((size.square, size.square), dtype=np.float32)
    for shape in size.shapes:
        count, num_codes, dim = shape
        x = random.standard_normal((count, dim), dtype=np.float32)
        codes = random.standard_normal((num_codes, dim), dtype=np.float32)
        taken = seconds(
            {
                ESANS: partial(nearest_codes, x, codes),
                NUMPY: partial(np.matmul, x, codes.T),
                TORCH: partial(torch.mm, torch.from_numpy(x), torch.from_numpy(codes).T),
                f"{NUMPY}, large square": partial(np.matmul, square, square),
                f"{TORCH}, large square": partial(torch.mm, torch.from_numpy(square), torch.from_numpy(square)),
            },
            size.repeats,
        )
        case = f"assignment: {count:,} vectors, {num_codes:,} codes, {dim} dimensions"
        found = {
            name: Row(case, name, "throughput", "GFLOP/s", 2e-9 * _products(name, size, shape) / median, size.repeats)
            for name, median in taken.items()
        }
        ours = found.pop(ESANS)
        yield from found.values()
        same_shape = [row for name, row in found.items() if not name.endswith("square")]
        squares = [row for name, row in found.items() if name.endswith("square")]
        yield beside(ours, max(same_shape, key=lambda row: row.value))
        yield beside(ours, max(squares, key=lambda row: row.value), "ratio >= 0.5")


def _products(name: str, size: Size, shape: tuple[int, int, int]) -> int:
    """Floating-point operations: each multiplication and its addition."""
    return size.square**3 if name.endswith("square") else math.prod(shape)
