import torch

from esans_core.hashing import uniform_hash


def test_numbers_are_uniform_and_depend_on_value_and_seed_alone() -> None:
    values = torch.arange(200_000)
    first = uniform_hash(values, 1)
    assert first.dtype == torch.float32 and float(first.min()) >= 0 and float(first.max()) < 1
    shares = torch.histc(first, 20, 0, 1) / len(values)
    assert float((shares - 0.05).abs().max()) < 0.003  # 6 standard deviations of a share
    shuffled = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform_hash(shuffled, 1), first[shuffled])
    assert uniform_hash(torch.tensor([7]), 2**70) == uniform_hash(torch.tensor([7]), 2**70)
    for other in (uniform_hash(values, 2), uniform_hash(values + 1, 1), uniform_hash(values, 1 << 40)):
        assert abs(float(torch.corrcoef(torch.stack([first, other]))[0, 1])) < 0.015
