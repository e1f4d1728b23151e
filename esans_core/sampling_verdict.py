"""What better negatives can still win, in plain words, from the noise of uniform ones (`esans_core.partition_variance`)."""

import math
from dataclasses import dataclass

from esans_core.partition_variance import SamplingNoise

ENOUGH_PARTITION = 0.05
"""Largest relative variance of the partition function at which a pool is enough.

The loss holds its log. By the expansion of the log, this variance makes the loss too low by half of it on average, .025 here.
That is a quarter of a per cent of the loss at which training begins in a catalogue of 50,000 items, log N = 10.8.
"""
ENOUGH_GRADIENT = 0.1
"""Largest relative variance of the gradient at which a pool is enough.

The gradient of a batch also errs because its users were chosen by chance. Gradients of different users mostly point in
different directions, so for each user this error has about the squared length of its gradient as variance. At the value here,
negatives add a tenth to that, as if the batch were smaller by a tenth. This holds for negatives drawn for each user. A pool
that a whole batch shares adds more, so it may need to be larger than this says.
"""


@dataclass(frozen=True)
class SamplingVerdict:
    """Whether uniform negatives do what the whole catalogue would.

    Attributes:
        pool_size: uniform negatives that were judged.
        num_items: N.
        enough: whether both variances are small enough.
        needed: about how many uniform negatives would be enough; None if not even the largest pool measured is.
        partition_variance: relative variance of the partition function.
        gradient_variance: relative variance of the gradient.
        text: the verdict in two or three sentences.
    """

    pool_size: int
    num_items: int
    enough: bool
    needed: int | None
    partition_variance: float
    gradient_variance: float
    text: str


def sampling_verdict(noise: SamplingNoise, pool_size: int) -> SamplingVerdict:
    """Judge a pool of uniform negatives by `ENOUGH_PARTITION` and `ENOUGH_GRADIENT`.

    If they are enough, no way to choose negatives brings the sampled softmax noticeably nearer to the full one. What this
    cannot see are methods that do not mean to estimate the full softmax, such as hard negatives without correction, which
    train for the top of the list. These may win or lose for other reasons. It also holds only for towers like those that were
    measured: better towers give more peaked scores, and then more negatives are needed.

    Args:
        noise: result of `sampling_noise`.
        pool_size: uniform negatives, one of the sizes measured.

    Raises:
        ValueError: this size was not measured.
    """
    pool = noise.at(pool_size)
    enough = pool.partition_variance <= ENOUGH_PARTITION and pool.gradient_variance <= ENOUGH_GRADIENT
    needed = pool_size if enough else _needed(noise, pool_size)
    count, all_items = f"{pool_size:,} uniform negatives", f"all {noise.num_items:,}"
    if pool_size >= noise.num_items:
        count += ", some of which are drawn again while others are missed,"
    numbers = (
        f"The relative variance of the partition function is {pool.partition_variance:.2g}, where {ENOUGH_PARTITION} is small "
        f"enough, and that of the gradient is {pool.gradient_variance:.2g}, where {ENOUGH_GRADIENT} is."
    )
    if enough:
        text = (
            f"{count} already do what {all_items} items would, so ESANS cannot help here: "
            f"hardly anything is left between them and full softmax. {numbers}"
        )
    elif needed is None:
        largest = noise.pools[-1].pool_size
        more = f", and neither do {largest:,}" if largest > pool_size else ""
        text = (
            f"{count} do not do what {all_items} items would{more}, so better negatives may win much: up to what full softmax "
            f"wins. {numbers}"
        )
    else:
        text = (
            f"{count} do not do what {all_items} items would. About {needed:,} would, {needed / pool_size:.1f} times as many, "
            f"so better negatives may save these, or win up to what full softmax wins. {numbers}"
        )
    return SamplingVerdict(pool_size, noise.num_items, enough, needed, pool.partition_variance, pool.gradient_variance, text)


def _needed(noise: SamplingNoise, pool_size: int) -> int | None:
    """The larger of what the partition function needs, whose variance falls as 1 / S, and of what the gradient needs."""
    of_gradient = [pool.pool_size for pool in noise.pools if pool.gradient_variance <= ENOUGH_GRADIENT]
    of_partition = math.ceil(pool_size * noise.at(pool_size).partition_variance / ENOUGH_PARTITION)
    if not of_gradient or of_partition > noise.pools[-1].pool_size:
        return None
    return max(of_partition, pool_size, *of_gradient[:1])
