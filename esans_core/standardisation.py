"""Standardised features: mean 0 and deviation 1 over the training items, and bounded for every item that comes later.

Two kinds of features would otherwise become huge. A feature that was the same for all training items has no deviation to divide
by. Its deviation is kept as infinity, so that it stays zero for every later item too. A feature that hardly varied can have a
far larger value in a new item, so every standardised value is cut at `MAX_DEVIATIONS`.

Shape legend: N items, F features.
"""

import torch
from torch import Tensor

# If one item in a hundred has a yes-or-no feature, its value for that item is 9.95 deviations, so features as rare as that keep
# their full value. Normally distributed values never get there. A value further out is a rarer exception or damaged, and if it
# were larger, it would only outweigh all other features of the item.
MAX_DEVIATIONS = 10.0
SMALLEST_DEVIATION = 1e-6  # of a feature: absolute for the towers, and everywhere as a share of the feature's largest value
_BLOCK = 1 << 17  # items whose features are standardised at a time: they may be the largest thing in memory


def feature_statistics(content_NF: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature over the items that have it, read block by block.

    A feature counts as constant if it deviates by `SMALLEST_DEVIATION` or less, or by no more than that share of its largest
    absolute value, because the rounding of float32 alone gives a large constant a small deviation.

    Args:
        content_NF: float32 [N, F], NaN where an item lacks the feature.

    Returns:
        Mean and deviation, float32 [F] each. The deviation of a constant feature, or of one that no item has, is infinite.

    Raises:
        ValueError: a value is infinite.
    """
    blocks = content_NF.split(_BLOCK)
    largest_F = content_NF.new_zeros(content_NF.shape[1])
    for block in blocks:
        if len(block):
            largest_F = torch.maximum(largest_F, block.abs().nan_to_num(0.0, posinf=torch.inf).amax(0))
    if bool(largest_F.isinf().any()):
        raise ValueError(_where_infinite(content_NF))
    count_F = sum((~block.isnan()).sum(0) for block in blocks).clamp_min(1)
    mean_F = sum(block.nan_to_num(0.0).sum(0) for block in blocks) / count_F
    variance_F = sum(((block - mean_F).nan_to_num(0.0) ** 2).sum(0) for block in blocks) / count_F
    return mean_F, usable_deviations(variance_F.sqrt(), largest_F, floor=SMALLEST_DEVIATION)


def usable_deviations(std_F: Tensor, largest_F: Tensor, *, floor: float = 0.0) -> Tensor:
    """The same deviations, infinite where a feature counts as constant.

    Args:
        std_F: float [F].
        largest_F: float [F], largest absolute value of each feature.
        floor: a deviation up to this counts as zero, whatever the size of the feature.
    """
    constant_F = (std_F <= SMALLEST_DEVIATION * largest_F) | (std_F <= floor)
    return torch.where(constant_F, torch.inf, std_F)


def standardise(content_NF: Tensor, mean_F: Tensor, std_F: Tensor, *, out: Tensor | None = None) -> Tensor:
    """`(content - mean) / std`, within `MAX_DEVIATIONS` on either side; 0 for a constant or missing (NaN) feature.

    Args:
        content_NF: float [N, F].
        mean_F: float [F].
        std_F: float [F]; infinity marks a constant feature.
        out: [N, F], the result is written to it instead of to new memory.
    """
    difference_NF = torch.sub(content_NF, mean_F, out=out)
    return difference_NF.div_(std_F).clamp_(-MAX_DEVIATIONS, MAX_DEVIATIONS).nan_to_num_(0.0)


def standardise_blocks(content_NF: Tensor, mean_F: Tensor, std_F: Tensor) -> Tensor:
    """The same for a whole catalogue; needs hardly more memory than the result."""
    standardised_NF = torch.empty_like(content_NF)
    for block, out in zip(content_NF.split(_BLOCK), standardised_NF.split(_BLOCK), strict=True):
        standardise(block, mean_F, std_F, out=out)
    return standardised_NF


def _where_infinite(content_NF: Tensor) -> str:
    row, feature = torch.nonzero(content_NF.isinf())[0].tolist()
    return (
        f"content must be finite, or NaN where a view is missing: feature {feature} of item row {row} is "
        f"{content_NF[row, feature].item()}"
    )
