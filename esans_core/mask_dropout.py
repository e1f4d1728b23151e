"""Dropout whose masks follow from a key, so that a training that was interrupted or shared out drops the same numbers.

Shape legend: D dimension; n positions of any shape.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.hashing import uniform_hash

_MASKS = 4096  # one megabyte at D = 64, which stays in the processor's cache


class MaskDropout(nn.Module):
    """Dropout over vectors: each position takes one of `_MASKS` masks, which were drawn once.

    A plain dropout draws from a generator, so its masks depend on how many processes share a batch and on where a training was
    interrupted. Here a position's mask follows from its key alone. To look a mask up is also quicker than to draw it.

    Args:
        dim: D.
        rate: chance that a number is dropped; the others are divided by 1 - rate.
        site: number of this dropout in its model, so that no two of them drop the same numbers.
    """

    def __init__(self, dim: int, rate: float, site: int) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a dropout rate is at least 0 and below 1, got {rate}")
        self.rate, self.site = rate, site
        drawn = torch.rand(_MASKS if rate else 0, dim, generator=torch.Generator().manual_seed(site))
        self.register_buffer("masks", (drawn >= rate).float() / (1 - rate), persistent=False)

    masks: Tensor

    def forward(self, x_nD: Tensor, keys_n: Tensor | None = None) -> Tensor:
        """float [n, D] -> the same shape.

        Args:
            x_nD: vectors.
            keys_n: int64 [n], another one for each position and step; None drops at random, as `torch.nn.Dropout` does.
        """
        if not self.training or not self.rate:
            return x_nD
        if keys_n is None:
            return functional.dropout(x_nD, self.rate)
        row_n = (uniform_hash(keys_n, self.site) * len(self.masks)).long()
        return x_nD * functional.embedding(row_n, self.masks)
