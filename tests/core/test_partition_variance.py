"""The noise of uniform negatives against simulation, through the library's own training step."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from esans_core import partition_variance
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.partition_variance import sampling_noise
from tests.core.largest_tensor import Largest

N, D, B, TAU = 150, 8, 40, 0.2
ITEMS = normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=-1)
USERS = normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)), dim=-1)
POSITIVES = (USERS @ ITEMS.T).topk(5).indices[:, 4]  # users like what they have as positive
SIZES = (16, 64, N)


def measured(**values: Any) -> partition_variance.SamplingNoise:
    given = {"temperature": TAU, "pool_sizes": SIZES, "generator": torch.Generator().manual_seed(2)} | values
    return sampling_noise(USERS, POSITIVES, ITEMS, **given)


def test_the_partition_functions_variance_and_bias_are_those_of_many_draws() -> None:
    repeats, noise = 20_000, measured()
    weights_BN = torch.exp(USERS @ ITEMS.T / TAU).double()
    positive_B, full_B = weights_BN.gather(1, POSITIVES[:, None])[:, 0], weights_BN.sum(1)
    for size in SIZES[:2]:
        items = torch.randint(N, (repeats, size), generator=torch.Generator().manual_seed(3))
        for scale, found in ((N / size, noise.at(size).partition_variance), (1.0, noise.at(size).uncorrected_partition_bias)):
            relative = torch.empty(repeats, dtype=torch.float64)  # its mean over users, in each repeat
            for start in range(0, repeats, 2000):
                some = items[start : start + 2000]
                drawn = (weights_BN[:, some] * (some != POSITIVES[:, None, None])).sum(2)
                error = (positive_B[:, None] + scale * drawn) / full_B[:, None] - 1
                relative[start : start + 2000] = (error**2 if scale > 1 else error).mean(0)
            standard_error = float(relative.std()) / math.sqrt(repeats)
            assert abs(float(relative.mean()) - found) < 4 * standard_error < 0.1 * abs(found)


def gradients(log_q: float, size: int, repeats: int) -> Tensor:
    """Gradients of the library's loss with respect to the users, [repeats, B, D]."""
    config = NegativeConfig.for_method("uniform", num_per_positive=size, log_q=log_q)
    objective = RetrievalObjective(config, torch.full((N,), 1 / N), temperature=TAU)
    generator, found = torch.Generator().manual_seed(4), []
    for _ in range(repeats):
        users = USERS.clone().requires_grad_()
        (objective(users, POSITIVES, lambda rows: ITEMS[rows], generator) * B).backward()
        found.append(users.grad)
    return torch.stack(found).double()  # type: ignore[arg-type]


def full_gradient() -> Tensor:
    users = USERS.clone().requires_grad_()
    cross_entropy(users @ ITEMS.T / TAU, POSITIVES, reduction="sum").backward()
    assert users.grad is not None
    return users.grad.double()


def test_the_gradients_variance_is_that_of_the_training_step() -> None:
    repeats, length = 300, full_gradient().square().sum()
    seeds = [measured(num_draws=64, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    for size in SIZES[:2]:
        found = gradients(1.0, size, repeats)
        squares = (found - found.mean(0)).square().sum((1, 2)) / length  # one for each repeat
        expected, error = float(squares.sum() / (repeats - 1)), float(squares.std() / math.sqrt(repeats))
        ours = torch.tensor([noise.at(size).gradient_variance for noise in seeds])
        tolerance = 4 * math.hypot(float(ours.std() / math.sqrt(len(seeds))), error)
        assert abs(float(ours.mean()) - expected) < tolerance < 0.15 * expected
    sizes = [noise.gradient_variance for noise in seeds[0].pools]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("corrected", [True, False])
def test_the_gradients_bias_is_that_of_the_training_step(corrected: bool) -> None:
    full, noise = full_gradient(), measured(num_draws=1000)
    for size in SIZES[:2]:
        first, second = (half.mean(0) - full for half in gradients(float(corrected), size, 1000).split(500))
        expected = float(((first * second).sum() / full.square().sum()).clamp_min(0).sqrt())
        pool = noise.at(size)
        ours = pool.gradient_bias if corrected else pool.uncorrected_gradient_bias
        assert ours == pytest.approx(expected, rel=0.1, abs=0.01)
        assert pool.uncorrected_gradient_bias > max(0.05, 2 * pool.gradient_bias)
    last = noise.at(N)
    assert last.uncorrected_gradient_bias == last.gradient_bias < 0.02, "a pool of N uniform draws needs no correction"


def test_blocks_change_no_closed_form_and_the_same_seed_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured()
    assert whole == measured()
    monkeypatch.setattr(partition_variance, "_LOGITS", 700)
    for one, other in zip(whole.pools, measured().pools, strict=True):
        assert other.partition_variance == pytest.approx(one.partition_variance, rel=1e-5)
        assert other.uncorrected_partition_bias == pytest.approx(one.uncorrected_partition_bias, rel=1e-5)
        assert other.gradient_variance == pytest.approx(one.gradient_variance, rel=1.0)  # other draws


def test_items_that_are_all_alike_leave_only_the_positive_to_err_by() -> None:
    noise = sampling_noise(
        USERS, POSITIVES, ITEMS[:1].expand(N, D), temperature=TAU, generator=torch.Generator().manual_seed(0)
    )
    assert [pool.pool_size for pool in noise.pools] == [32, 64, 128, N]
    for pool in noise.pools:  # a draw of the positive, with probability 1 / N, counts nothing
        assert pool.partition_variance == pytest.approx((N - 1) / N**2 / pool.pool_size, rel=1e-3)
    assert noise.pools[-1].uncorrected_partition_bias == 0.0


def test_scores_far_apart_give_numbers_and_not_nan() -> None:
    items = torch.stack([USERS[0], -USERS[0]]).repeat_interleave(N // 2, 0)
    items[0] = USERS[0] * 1.5  # all of the softmax, and the positive nothing
    noise = sampling_noise(USERS[:1], torch.tensor([N - 1]), items, temperature=0.005, pool_sizes=[1, 8])
    for pool in noise.pools:
        numbers = (pool.partition_variance, pool.gradient_variance, pool.gradient_bias, pool.uncorrected_gradient_bias)
        assert all(math.isfinite(number) for number in numbers)
    assert noise.at(1).partition_variance == pytest.approx(N - 1)


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_variance, "_LOGITS", 1 << 14)
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(64, 4, generator=generator), torch.randn(5000, 4, generator=generator)
    with Largest() as largest:
        sampling_noise(users, torch.arange(64), items, temperature=1.0, generator=generator)
    assert largest.numbers <= max(1 << 14, items.numel())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="a positive for each of 40 users"):
        sampling_noise(USERS, POSITIVES[:3], ITEMS, temperature=TAU)
    with pytest.raises(ValueError, match=r"users \[B, D\] and items \[N, D\]"):
        sampling_noise(USERS, POSITIVES, ITEMS[:, :3], temperature=TAU)
    with pytest.raises(ValueError, match="no negatives"):
        sampling_noise(USERS, POSITIVES * 0, ITEMS[:1], temperature=TAU)
    with pytest.raises(ValueError, match="num_draws >= 4"):
        measured(num_draws=2)
    with pytest.raises(ValueError, match="1 or more"):
        measured(pool_sizes=[0, 8])
    with pytest.raises(ValueError, match="there are 16, 64, 150"):
        measured().at(32)
