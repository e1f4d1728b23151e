"""Numbers that say whether a clustering is fit to sample from: sizes, balance, distortion, churn."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ClusterQuality:
    """Shape of one level of clusters.

    Attributes:
        num_items: items that have a label.
        num_codes: codes of the codebook.
        empty: codes without any item.
        smallest: items in the smallest cluster that is not empty.
        largest: items in the largest cluster.
        largest_share: `largest / num_items`.
        perplexity: exp of the entropy of the sizes: so many clusters of equal size would be as spread out.
        balance: `perplexity / num_codes`; 1 when all clusters are equal.
        distortion: mean squared distance of an item to its code, if distances were given.
    """

    num_items: int
    num_codes: int
    empty: int
    smallest: int
    largest: int
    largest_share: float
    perplexity: float
    balance: float
    distortion: float | None = None


def cluster_sizes(labels: np.ndarray, num_codes: int) -> np.ndarray:
    """Items of each code, int64 [num_codes]; labels below 0 (no cluster) are left out."""
    return np.bincount(labels[labels >= 0], minlength=num_codes)


def cluster_quality(labels: np.ndarray, num_codes: int, squared_distance: np.ndarray | None = None) -> ClusterQuality:
    """Sizes, balance and distortion of a labelling.

    Args:
        labels: int [N], -1 where an item has no cluster.
        num_codes: codes of the codebook.
        squared_distance: float [N], squared distance of each item to its code; items without a cluster are ignored.
    """
    distortion = None
    if squared_distance is not None and (labels >= 0).any():
        distortion = float(squared_distance[labels >= 0].mean(dtype=np.float64))
    return quality_of_sizes(cluster_sizes(labels, num_codes), distortion)


def quality_of_sizes(sizes: np.ndarray, distortion: float | None = None) -> ClusterQuality:
    """The same from the sizes alone, for a labelling that is too large to hold in memory.

    Args:
        sizes: int [K], items of each code.
        distortion: mean squared distance of an item to its code.
    """
    total, num_codes = int(sizes.sum()), len(sizes)
    used = sizes[sizes > 0]
    share = used / max(total, 1)
    perplexity = float(np.exp(-(share * np.log(share)).sum())) if total else 0.0
    return ClusterQuality(
        num_items=total,
        num_codes=num_codes,
        empty=int((sizes == 0).sum()),
        smallest=int(used.min(initial=total)),
        largest=int(sizes.max(initial=0)),
        largest_share=float(sizes.max(initial=0) / max(total, 1)),
        perplexity=perplexity,
        balance=perplexity / num_codes,
        distortion=distortion,
    )


def label_churn(previous: np.ndarray, current: np.ndarray) -> float:
    """Share of items whose label changed, over items that have a label both times; 0.0 when there is none.

    Args:
        previous: int [N] or [N, L]: labels of some items, L levels; a row with a label below 0 is left out.
        current: labels of the same items, in the same order.

    Raises:
        ValueError: unequal shapes.
    """
    if previous.shape != current.shape:
        raise ValueError(f"labels of the same items expected, got shapes {list(previous.shape)} and {list(current.shape)}")
    before, after = previous.reshape(len(previous), -1), current.reshape(len(current), -1)
    both = (before >= 0).all(axis=1) & (after >= 0).all(axis=1)
    return float((before[both] != after[both]).any(axis=1).mean()) if both.any() else 0.0
