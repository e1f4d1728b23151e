"""Repair of small clusters: the guarantee, the report, and that both rest on nearest-code assignment."""

import numpy as np
import pytest

from esans_core.clusters.nearest import nearest_codes
from esans_core.clusters.repair import Repaired, repair_small_clusters


def assigned_sizes(x: np.ndarray, repaired: Repaired) -> np.ndarray:
    """Sizes from a fresh assignment to the active codes, not from the labels that repair kept."""
    ids = np.flatnonzero(repaired.active_K)
    label, squared = nearest_codes(x, repaired.codes_KD[ids])
    assert np.array_equal(ids[label], repaired.label_N) and np.array_equal(squared, repaired.squared_N)
    return np.bincount(ids[label], minlength=len(repaired.codes_KD))


@pytest.mark.parametrize("seed", range(12))
def test_every_cluster_in_use_is_large_enough(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_codes, min_size, dim = int(rng.integers(2, 24)), int(rng.integers(1, 9)), int(rng.integers(1, 6))
    x = rng.standard_normal((num_codes * min_size + int(rng.integers(0, 200)), dim)).astype(np.float32) ** 3
    codes = x[rng.choice(len(x), num_codes, replace=False)] + rng.standard_normal(dim).astype(np.float32) * rng.integers(0, 3)
    active = rng.random(num_codes) < 0.8
    active[0] = True
    repaired = repair_small_clusters(x, codes, min_size, active)
    sizes = assigned_sizes(x, repaired)
    assert (sizes[repaired.active_K] >= min_size).all() and (sizes[~repaired.active_K] == 0).all()
    assert sizes.sum() == len(x)


def test_a_lone_outlier_is_merged_and_its_code_splits_the_widest_cluster() -> None:
    rng = np.random.default_rng(0)
    wide = np.concatenate([rng.normal([-3, 0], 0.3, (20, 2)), rng.normal([3, 0], 0.3, (20, 2))])
    tight = rng.normal([0, 20], 0.1, (15, 2))
    outlier = np.array([[0.0, 26.0]])
    x = np.concatenate([wide, tight, outlier]).astype(np.float32)
    codes = np.array([[0, 0], [0, 20], [0, 26]], np.float32)
    repaired = repair_small_clusters(x, codes, 5)
    (repair,) = repaired.repairs
    assert (repair.code, repair.size_before, repair.merged_into) == (2, 1, {1: 1})
    assert (repair.split_from, repair.donor_size_before, repair.donor_size_after, repair.size_after) == (0, 40, 20, 20)
    assert assigned_sizes(x, repaired).tolist() == [20, 16, 20]
    assert len(set(repaired.label_N[:20])) == 1 and repaired.label_N[0] != repaired.label_N[20]


def test_codes_that_need_no_repair_are_untouched() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((100, 3)).astype(np.float32)
    codes = np.eye(3, dtype=np.float32)
    repaired = repair_small_clusters(x, codes, 5)
    assert repaired.repairs == () and np.array_equal(repaired.codes_KD, codes) and repaired.active_K.all()


def test_identical_items_end_in_one_cluster() -> None:
    x = np.ones((30, 4), np.float32)
    repaired = repair_small_clusters(x, np.arange(12, dtype=np.float32).reshape(3, 4), 5)
    assert repaired.active_K.sum() == 1 and assigned_sizes(x, repaired).max() == 30
    assert all(repair.split_from is None and repair.size_after == 0 for repair in repaired.repairs)


def test_a_code_retired_earlier_comes_back_when_there_is_room() -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal((200, 3)).astype(np.float32)
    codes = rng.standard_normal((4, 3)).astype(np.float32)
    repaired = repair_small_clusters(x, codes, 5, np.array([True, True, False, True]))
    assert repaired.active_K.all()
    assert [(repair.code, repair.size_before, repair.merged_into) for repair in repaired.repairs] == [(2, 0, {})]


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="4 items cannot make one cluster of at least 5"):
        repair_small_clusters(np.zeros((4, 2), np.float32), np.zeros((2, 2), np.float32), 5)
    with pytest.raises(ValueError, match="active"):
        repair_small_clusters(np.zeros((9, 2), np.float32), np.zeros((2, 2), np.float32), 5, np.zeros(2, bool))
