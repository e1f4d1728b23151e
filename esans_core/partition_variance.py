"""How much the sampled softmax with uniform negatives errs against the full softmax, for given users, items and temperature.

A pool of S uniform draws estimates the partition function, the sum of exp(score) over all items. What it errs by is all that
better negatives could mend, as far as they are meant to estimate the full softmax. `esans_core.sampling_verdict` says in plain
words what follows from these numbers.

Shape legend: B users, b of one block, N items, D dimension, R repeats of the draws, S draws, s of them at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_LOGITS = 1 << 22  # logits that are held at a time: 32 MB in float64
_USERS = 16  # users that share their draws; those of other blocks are independent
_SMALLEST = 32


@dataclass(frozen=True)
class PoolNoise:
    """What a pool of one size errs by.

    Attributes:
        pool_size: S, uniform draws with replacement.
        partition_variance: variance of the estimated partition function over its square, with logQ, mean over users. The loss
            is about half of this too low on average.
        gradient_variance: variance of the estimated gradient with respect to the user vector, over its squared length, with
            logQ; both summed over users first, so that a user who has hardly any gradient does not count for more.
        gradient_bias: length of what the mean gradient is off by, with logQ, over the gradient's length; both as root of the
            sum of squares over users. It is not zero, because the gradient is a ratio of two estimates; chance adds a little.
        uncorrected_partition_bias: how far the partition function is off on average without logQ, as a share of it, mean over
            users; negative if it is too low.
        uncorrected_gradient_bias: as `gradient_bias`, without logQ.
    """

    pool_size: int
    partition_variance: float
    gradient_variance: float
    gradient_bias: float
    uncorrected_partition_bias: float
    uncorrected_gradient_bias: float


@dataclass(frozen=True)
class SamplingNoise:
    """What uniform pools of several sizes err by.

    Attributes:
        num_items: N.
        num_users: B, users that it was measured for.
        pools: from the smallest to the largest.
    """

    num_items: int
    num_users: int
    pools: tuple[PoolNoise, ...]

    def at(self, pool_size: int) -> PoolNoise:
        """The pool of one size.

        Raises:
            ValueError: this size was not measured.
        """
        for pool in self.pools:
            if pool.pool_size == pool_size:
                return pool
        sizes = ", ".join(str(pool.pool_size) for pool in self.pools)
        raise ValueError(f"a pool of {pool_size} was not measured: give it in pool_sizes; there are {sizes}")


@dataclass(frozen=True)
class _Exact:
    """What the full softmax gives for each user.

    Attributes:
        log_sum_B: float64, log of the partition function.
        share_B: float64, the positive's share of it.
        squares_B: float64, summed squares of the other items' shares.
        gradient_BD: float64, mean of all item vectors by their shares, less the positive's: the gradient times temperature.
    """

    log_sum_B: Tensor
    share_B: Tensor
    squares_B: Tensor
    gradient_BD: Tensor


@torch.no_grad()
def sampling_noise(
    users_BD: Tensor,
    positives_B: Tensor,
    items_ND: Tensor,
    *,
    temperature: float,
    pool_sizes: Sequence[int] | None = None,
    num_draws: int = 16,
    generator: torch.Generator | None = None,
) -> SamplingNoise:
    """Measure what uniform pools err by.

    With the shares p_j of the full softmax, i the positive and S draws with replacement, of which those that hit i do not
    count, the relative variance of the estimated partition function has a closed form:

        (N sum_{j != i} p_j^2 - (1 - p_i)^2) / S.

    So has its relative bias without logQ, (S / N - 1) (1 - p_i). The gradient is a ratio of two estimates and has none. It is
    estimated `num_draws` times, from the same draws for all pool sizes: a larger pool contains a smaller one.

    Draws are with replacement, as in the library's pools, so a pool of N draws still errs a little. The numbers are those of
    each user by itself. If a batch shares its pool, the errors of its users resemble each other, so the batch averages less of
    them away than of errors from draws for each user. The numbers do not show this.

    It takes B N D products for the closed forms, and 2 num_draws times as many as all users' scores of the largest pool for
    the gradients: at B = 256, N = 54,542 and D = 64 about eight seconds of one core. It holds blocks of about 4 M logits, never
    B x N of them. A few hundred users are enough.

    Args:
        users_BD: float [B, D], as the towers give them.
        positives_B: int64 [B], item rows.
        items_ND: float [N, D].
        temperature: tau; a score is the product of user and item, divided by it.
        pool_sizes: sizes S; 32 and its doublings below N, and N, unless given.
        num_draws: how often the gradient is estimated for each user, 4 or more. Users share draws in groups of 16. With g
            groups, the gradient's variance is known to about sqrt(2 / (num_draws g)) of itself.
        generator: source of randomness, on the device of the users.

    Returns:
        Their noise, from the smallest pool to the largest.

    Raises:
        ValueError: shapes do not fit, or a number is out of range.
    """
    _check(users_BD, positives_B, items_ND, temperature, num_draws)
    num_items = len(items_ND)
    sizes = sorted(set(doubled_sizes(num_items) if pool_sizes is None else pool_sizes))
    if not sizes or sizes[0] < 1:
        raise ValueError(f"pool sizes are 1 or more, got {list(sizes)}")
    users_BD, items_ND = users_BD.float() / temperature, items_ND.float()
    exact = _exact(users_BD, positives_B, items_ND)
    others_B = 1 - exact.share_B
    variance = float((num_items * exact.squares_B - others_B**2).clamp_min(0).mean())
    squared_length = exact.gradient_BD.square().sum().clamp_min(torch.finfo(torch.float64).tiny)
    squared_errors = torch.zeros(len(sizes), 3, dtype=torch.float64, device=users_BD.device)
    for start in range(0, len(users_BD), _USERS):
        rows = slice(start, start + _USERS)
        squared_errors += _gradient_errors(
            users_BD[rows], positives_B[rows], items_ND, exact, rows, sizes, num_draws, generator
        )
    relative = (squared_errors / squared_length).tolist()
    return SamplingNoise(
        num_items,
        len(users_BD),
        tuple(
            PoolNoise(
                size,
                variance / size,
                of_gradient,
                max(0.0, squared_bias) ** 0.5,
                float(others_B.mean()) * (size / num_items - 1),
                max(0.0, squared_uncorrected) ** 0.5,
            )
            for size, (of_gradient, squared_bias, squared_uncorrected) in zip(sizes, relative, strict=True)
        ),
    )


def _check(users_BD: Tensor, positives_B: Tensor, items_ND: Tensor, temperature: float, num_draws: int) -> None:
    if users_BD.dim() != 2 or items_ND.dim() != 2 or users_BD.shape[1] != items_ND.shape[1] or not len(users_BD):
        raise ValueError(f"expected users [B, D] and items [N, D], got {list(users_BD.shape)} and {list(items_ND.shape)}")
    if positives_B.shape != users_BD.shape[:1]:
        raise ValueError(f"expected a positive for each of {len(users_BD)} users, got {list(positives_B.shape)}")
    if len(items_ND) < 2:
        raise ValueError("a catalogue of one item has no negatives")
    if temperature <= 0 or num_draws < 4:
        raise ValueError(f"expected temperature > 0 and num_draws >= 4, got {temperature} and {num_draws}")


def doubled_sizes(num_items: int) -> list[int]:
    """Pool sizes from 32 on, each twice the one before, and the number of all items."""
    return [*(_SMALLEST << power for power in range(64) if _SMALLEST << power < num_items), num_items]


def _exact(users_BD: Tensor, positives_B: Tensor, items_ND: Tensor) -> _Exact:
    """The full softmax, for a block of users at a time."""
    found = []
    size = max(1, _LOGITS // len(items_ND))
    for users_bD, positives_b in zip(users_BD.split(size), positives_B.split(size), strict=True):
        logits_bN = (users_bD @ items_ND.T).double()
        log_sum_b = logits_bN.logsumexp(1)
        share_bN = logits_bN.sub_(log_sum_b[:, None]).exp_()
        share_b = share_bN.gather(1, positives_b[:, None])[:, 0]
        gradient_bD = (share_bN.float() @ items_ND - items_ND[positives_b]).double()
        squares_b = share_bN.scatter_(1, positives_b[:, None], 0.0).square_().sum(1)
        found.append((log_sum_b, share_b, squares_b, gradient_bD))
    return _Exact(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def _gradient_errors(
    users_bD: Tensor,
    positives_b: Tensor,
    items_ND: Tensor,
    exact: _Exact,
    rows: slice,
    sizes: Sequence[int],
    num_draws: int,
    generator: torch.Generator | None,
) -> Tensor:
    """Variance and squared bias with logQ, and squared bias without it, summed over users of a block: float64 [sizes, 3]."""
    num_items, dim = items_ND.shape
    share_b1, gradient_bD = exact.share_B[rows, None], exact.gradient_BD[rows]
    positives_b1D = items_ND[positives_b][:, None].double()
    # In float32, the shares of items that are far from a user would become zero, and a ratio of such sums no number.
    sum_bR = gradient_bD.new_zeros(len(users_bD), num_draws)
    sum_bRD = gradient_bD.new_zeros(len(users_bD), num_draws, dim)
    most = max(1, _LOGITS // (num_draws * max(len(users_bD), dim)))
    found, done = [], 0

    def gradients(weight: float) -> Tensor:
        """The estimates, [b, R, D], if each draw counts so many times."""
        of_others = (share_b1 + weight * sum_bR)[..., None]
        return (share_b1[..., None] * positives_b1D + weight * sum_bRD) / of_others - positives_b1D

    def squared_bias(estimates_bRD: Tensor) -> Tensor:
        """Summed over users. The product of the mean errors of two independent halves has it as its expectation."""
        first, second = (half.mean(1) - gradient_bD for half in estimates_bRD.tensor_split(2, dim=1))
        return (first * second).sum()

    for size in sizes:
        while done < size:
            count = min(most, size - done)
            items_Rs = torch.randint(num_items, (num_draws, count), generator=generator, device=users_bD.device)
            vectors_RsD = items_ND[items_Rs]
            logits_bRs = (users_bD @ vectors_RsD.flatten(0, 1).T).view(len(users_bD), num_draws, count)
            share_bRs = logits_bRs.double().sub_(exact.log_sum_B[rows, None, None]).exp_()
            share_bRs.masked_fill_(items_Rs == positives_b[:, None, None], 0.0)  # a draw of the positive does not count
            sum_bR += share_bRs.sum(2)
            sum_bRD += torch.einsum("brs,rsd->brd", share_bRs, vectors_RsD.double())
            done += count
        corrected = gradients(num_items / size)
        variance = corrected.var(dim=1).sum()
        found.append(torch.stack([variance, squared_bias(corrected), squared_bias(gradients(1.0))]))
    return torch.stack(found)
