"""Standardised features: constant ones stay zero, all are bounded, and the others are what they always were."""

import pytest
import torch

from esans_core.standardisation import MAX_DEVIATIONS, feature_statistics, standardise, standardise_blocks


def plainly(content: torch.Tensor) -> torch.Tensor:
    """Mean and deviation over the values that are there, without bound or exception."""
    columns = [column[~column.isnan()] for column in content.T]
    mean, std = (torch.stack([f(column) for column in columns]) for f in (torch.mean, lambda c: c.std(correction=0)))
    return ((content - mean) / std).nan_to_num(0.0)


def test_ordinary_features_are_standardised_to_the_bit_as_without_a_bound() -> None:
    torch.manual_seed(0)
    content = torch.randn(500, 6) * torch.tensor([1e-4, 0.01, 1.0, 30.0, 1e4, 1.0]) + torch.tensor([0, 5, -2, 1e3, 0, 1e-3])
    content[::7, :2] = torch.nan
    mean, std = feature_statistics(content)
    found = standardise_blocks(content, mean, std)
    assert found.abs().max() < MAX_DEVIATIONS
    assert torch.equal(found, ((content - mean) / std).nan_to_num(0.0))
    torch.testing.assert_close(found, plainly(content), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.02, 0.1, -7.3, 1234.567, 1e-7, 1e8])
@pytest.mark.parametrize("count", [1, 30, 10_001])
def test_a_constant_feature_stays_zero_for_ever(constant: float, count: int) -> None:
    content = torch.full((count, 1), constant)
    statistics = feature_statistics(content)
    later = torch.tensor([[constant], [0.0], [1.0], [-1e9], [3e38], [torch.nan]])
    assert standardise(content, *statistics).eq(0).all()
    assert standardise(later, *statistics).eq(0).all()


@pytest.mark.parametrize(("level", "noise"), [(0.02, 1e-9), (100.0, 1e-5), (0.0, 1e-8), (0.0, 1e-17), (1e6, 0.06)])
def test_what_rounding_alone_moves_counts_as_constant(level: float, noise: float) -> None:
    content = level + noise * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    statistics = feature_statistics(content)
    assert standardise(content, *statistics).eq(0).all() and standardise(content + 1, *statistics).eq(0).all()


def test_a_feature_that_varies_little_but_truly_is_kept() -> None:
    content = 1 + 1e-4 * torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    found = standardise(content, *feature_statistics(content))
    assert found.std() == pytest.approx(1, rel=1e-2)


def test_no_value_lies_further_out_than_the_bound() -> None:
    content = torch.zeros(10_000, 2)
    content[0] = 1.0  # one item in ten thousand: 100 deviations
    content[:, 1] += torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    statistics = feature_statistics(content)
    assert standardise(content, *statistics)[0, 0] == MAX_DEVIATIONS
    later = torch.tensor([[3e38, -3e38], [torch.inf, -torch.inf], [torch.nan, 0.0]])
    found = standardise(later, *statistics)
    assert found[:2].tolist() == [[MAX_DEVIATIONS, -MAX_DEVIATIONS]] * 2 and found[2, 0] == 0


def test_a_feature_of_one_item_in_a_hundred_keeps_its_full_value() -> None:
    content = (torch.arange(10_000) % 100 == 0).float()[:, None]
    largest = float(standardise(content, *feature_statistics(content)).max())
    assert largest == pytest.approx(99**0.5, rel=1e-4) and largest < MAX_DEVIATIONS


def test_an_infinite_value_is_refused_with_its_place() -> None:
    content = torch.randn(40, 3)
    content[17, 2] = -torch.inf
    with pytest.raises(ValueError, match="feature 2 of item row 17 is -inf"):
        feature_statistics(content)


def test_a_feature_that_no_item_has_and_an_empty_catalogue() -> None:
    content = torch.full((5, 2), torch.nan)
    statistics = feature_statistics(content)
    assert standardise(torch.ones(3, 2), *statistics).eq(0).all()
    mean, std = feature_statistics(torch.empty(0, 2))
    assert mean.eq(0).all() and std.isinf().all()


def test_blocks_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    content = torch.randn(100, 5) * 3 + 1
    content[:, 4] = 0.3
    content[::7, :2] = torch.nan
    whole = feature_statistics(content)
    monkeypatch.setattr("esans_core.standardisation._BLOCK", 32)
    blocks = feature_statistics(content)
    torch.testing.assert_close(blocks, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(standardise_blocks(content, *blocks), standardise(content, *whole), rtol=1e-5, atol=1e-6)
