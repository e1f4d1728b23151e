"""The verdict on a flat and on a peaked world, and at its thresholds."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from esans_core.partition_variance import PoolNoise, SamplingNoise, sampling_noise
from esans_core.sampling_verdict import ENOUGH_GRADIENT, ENOUGH_PARTITION, sampling_verdict


def world(peaked: bool) -> SamplingNoise:
    """2,000 items. In the flat world users have no taste; in the peaked one each has 3 items that it likes far above all."""
    generator = torch.Generator().manual_seed(0)
    users = normalize(torch.randn(48, 16, generator=generator), dim=-1)
    items = normalize(torch.randn(2000, 16, generator=generator), dim=-1)
    if peaked:
        items[:144] = normalize(users.repeat(3, 1) + 0.1 * items[:144], dim=-1)
    temperature = 0.05 if peaked else 1.0
    return sampling_noise(users, torch.arange(48), items, temperature=temperature, generator=generator)


def test_in_a_flat_world_few_uniform_negatives_are_enough() -> None:
    found = sampling_verdict(world(peaked=False), 256)
    assert found.enough and found.needed == 256
    assert found.text.startswith(
        "256 uniform negatives already do what all 2,000 items would, so ESANS cannot help here: hardly anything is left"
    )


def test_in_a_peaked_world_no_number_of_them_is() -> None:
    found = sampling_verdict(world(peaked=True), 256)
    assert not found.enough and found.needed is None and found.partition_variance > 1
    assert "and neither do 2,000, so better negatives may win much" in found.text
    largest = sampling_verdict(world(peaked=True), 2_000)  # a small catalogue: there is no larger pool to tell of
    count = "2,000 uniform negatives, some of which are drawn again while others are missed,"
    assert largest.text.startswith(f"{count} do not do what all 2,000 items would, so better negatives may win much")


def noise(*pools: tuple[int, float, float]) -> SamplingNoise:
    return SamplingNoise(54_542, 256, tuple(PoolNoise(*pool, 0.0, 0.0, 0.0) for pool in pools))


def test_both_thresholds_decide_and_the_larger_need_is_told() -> None:
    steps = noise((256, 0.2, 0.4), (512, 0.1, 0.2), (1024, 0.05, 0.1), (54_542, 0.001, 0.002))
    small, enough = sampling_verdict(steps, 256), sampling_verdict(steps, 1024)
    assert (small.enough, small.needed) == (False, 1024) and (enough.enough, enough.needed) == (True, 1024)
    assert "About 1,024 would, 4.0 times as many" in small.text and "all 54,542" in small.text
    assert (enough.partition_variance, enough.gradient_variance) == (ENOUGH_PARTITION, ENOUGH_GRADIENT)
    of_partition = noise((256, 0.5, 0.09), (54_542, 0.0023, 0.001))
    assert sampling_verdict(of_partition, 256).needed == 2560
    of_gradient = noise((256, 0.01, 0.3), (54_542, 0.00005, 0.001))
    assert sampling_verdict(of_gradient, 256).needed == 54_542
    hopeless = replace(of_gradient, pools=of_gradient.pools[:1])
    assert sampling_verdict(hopeless, 256).needed is None
    with pytest.raises(ValueError, match="a pool of 100 was not measured"):
        sampling_verdict(steps, 100)
