"""Sizes, balance and churn on labellings small enough to count by hand."""

import numpy as np
import pytest

from esans_core.clusters.cluster_quality import cluster_quality, label_churn


def test_counts_and_balance() -> None:
    quality = cluster_quality(np.array([0, 0, 2, 2, -1]), 4, np.array([1.0, 3.0, 0.0, 0.0, np.nan]))
    assert (quality.num_items, quality.num_codes, quality.empty, quality.smallest, quality.largest) == (4, 4, 2, 2, 2)
    assert quality.perplexity == pytest.approx(2) and quality.balance == pytest.approx(0.5)
    assert quality.largest_share == 0.5 and quality.distortion == 1


def test_nothing_clustered() -> None:
    quality = cluster_quality(np.array([-1, -1]), 3)
    assert (quality.num_items, quality.empty, quality.largest, quality.perplexity, quality.distortion) == (0, 3, 0, 0, None)


def test_churn_counts_items_labelled_both_times() -> None:
    assert label_churn(np.array([0, 1, 2, -1]), np.array([0, 2, 2, 5])) == pytest.approx(1 / 3)
    assert label_churn(np.array([-1]), np.array([0])) == 0
    pairs = np.array([[0, 0], [1, 1], [2, 2]])
    assert label_churn(pairs, np.array([[0, 9], [1, 1], [-1, -1]])) == pytest.approx(1 / 2)
    with pytest.raises(ValueError, match="same items"):
        label_churn(np.array([1]), np.array([1, 2]))
