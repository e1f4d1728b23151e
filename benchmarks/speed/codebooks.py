"""Fitting the cascaded codebooks, against k-means of faiss and scikit-learn and the ResidualVQ of vector-quantize-pytorch.

The data are planted: unit vectors of three views, from a Gaussian mixture whose group sizes follow a power law. All libraries
fit the same vectors with the same number of codes on both levels: the means of the views, then the concatenated residuals. The
time runs from the data to the labels of all items. The same code then judges every codebook, with the exact nearest codes.

They differ in some ways. Ours also repairs clusters of fewer than m_o items and reports on the fit. MiniBatchKMeans sees
mini-batches. ResidualVQ takes the residual of a single vector, never of concatenated ones, so its two levels run one after the
other on our inputs. It starts with k-means and goes on with moving averages over mini-batches, as in training.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.measure import beside, judged, seconds
from benchmarks.record import Row
from esans_core.clusters.cluster_quality import ClusterQuality, cluster_quality
from esans_core.clusters.codebooks import fit_codebooks, mean_view, residuals
from esans_core.clusters.nearest import nearest_codes

ESANS, FAISS, FAISS_PRIMARY = "fit_codebooks", "faiss.Kmeans, both levels", "faiss.Kmeans, primary level only"
MINI_BATCH, RESIDUAL_VQ = "scikit-learn MiniBatchKMeans", "vector-quantize-pytorch ResidualVQ"
_SEED = 7
_SMALLEST = 5  # m_o

Codes = tuple[np.ndarray, np.ndarray | None]
FitLevel = Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]  # vectors [N, d], K -> codes [K, d], labels [N]


@dataclass(frozen=True)
class Size:
    """Attributes: items; planted groups; codes of both levels; dimension of a view; k-means iterations; repeats."""

    num_items: int = 50_000
    num_groups: int = 160
    num_primary: int = 128
    num_secondary: int = 64
    dim: int = 64
    iterations: int = 25
    repeats: int = 5


FULL = Size()
QUICK = Size(num_items=10_000, num_groups=80, num_primary=64, num_secondary=32, iterations=10)


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """Time and quality of each; without peers only faiss, because our own code is built on it."""
    aligned_NMD = planted(size)
    present_NM = np.ones(aligned_NMD.shape[:2], bool)
    codes: dict[str, Codes] = {}
    fits: dict[str, Callable[[], Codes]] = {
        ESANS: lambda: _esans(aligned_NMD, present_NM, size),
        FAISS: lambda: cascade(_faiss(size), aligned_NMD, present_NM, size),
        FAISS_PRIMARY: lambda: (_faiss(size)(mean_view(aligned_NMD, present_NM), size.num_primary)[0], None),
    }
    if peers:
        from benchmarks.peers.quantisers import mini_batch_k_means, residual_vq

        fits[MINI_BATCH] = lambda: cascade(mini_batch_k_means(size.iterations, _SEED), aligned_NMD, present_NM, size)
        fits[RESIDUAL_VQ] = lambda: cascade(residual_vq(size.iterations, _SEED), aligned_NMD, present_NM, size)

    def keeping(name: str) -> Callable[[], None]:
        return lambda: codes.update({name: fits[name]()})

    taken = seconds({name: keeping(name) for name in fits}, size.repeats)
    time = {name: _row(size, name, "time to fit", "s", value) for name, value in taken.items()}
    yield from time.values()
    yield from (beside(time[ESANS], row) for name, row in time.items() if name != ESANS)
    yield from _quality(codes, aligned_NMD, present_NM, size)


def planted(size: Size) -> np.ndarray:
    """float32 [N, 3, D], unit vectors: a group's direction, plus a style of each view within it, plus noise."""
    random = np.random.default_rng(_SEED)
    share = np.arange(1, size.num_groups + 1) ** -1.75  # the smallest groups hold a handful of items
    group_N = random.choice(size.num_groups, size.num_items, p=share / share.sum())
    style_NM = random.integers(4, size=(size.num_items, 3))
    centre_GD = random.normal(size=(size.num_groups, size.dim))
    style_GMSD = random.normal(scale=0.5, size=(size.num_groups, 3, 4, size.dim))
    noise_NMD = random.normal(scale=0.4, size=(size.num_items, 3, size.dim))
    view_NMD = centre_GD[group_N][:, None] + style_GMSD[group_N[:, None], np.arange(3), style_NM] + noise_NMD
    return (view_NMD / np.linalg.norm(view_NMD, axis=2, keepdims=True)).astype(np.float32)


def cascade(fit: FitLevel, aligned_NMD: np.ndarray, present_NM: np.ndarray, size: Size) -> Codes:
    """Fit both levels with any quantiser of vectors."""
    primary, label_N = fit(mean_view(aligned_NMD, present_NM), size.num_primary)
    secondary, _ = fit(residuals(aligned_NMD, present_NM, primary, label_N), size.num_secondary)
    return primary, secondary


def _esans(aligned_NMD: np.ndarray, present_NM: np.ndarray, size: Size) -> Codes:
    codebooks, _ = fit_codebooks(
        aligned_NMD,
        present_NM,
        num_primary=size.num_primary,
        num_secondary=size.num_secondary,
        min_cluster_size=_SMALLEST,
        seed=_SEED,
        iterations=size.iterations,
    )
    return codebooks.primary_PD[codebooks.active_P], codebooks.secondary_CSE[0]


def _faiss(size: Size) -> FitLevel:
    import faiss

    def fit(x_ND: np.ndarray, num_codes: int) -> tuple[np.ndarray, np.ndarray]:
        every: dict[str, Any] = {"min_points_per_centroid": 1, "max_points_per_centroid": len(x_ND)}
        k_means = faiss.Kmeans(x_ND.shape[1], num_codes, niter=size.iterations, seed=_SEED, **every)
        k_means.train(x_ND)
        return np.asarray(k_means.centroids), k_means.index.search(x_ND, 1)[1][:, 0]

    return fit


def _quality(codes: dict[str, Codes], aligned_NMD: np.ndarray, present_NM: np.ndarray, size: Size) -> Iterator[Row]:
    """Distortion, balance, empty codes and smallest cluster, with the exact nearest codes of each library's codebooks."""
    found: dict[str, dict[str, Row]] = {}
    for name, (primary, secondary) in codes.items():
        label_N, squared_N = nearest_codes(mean_view(aligned_NMD, present_NM), primary)
        found[name] = _level(size, name, "primary", cluster_quality(label_N, size.num_primary, squared_N))
        if secondary is not None:
            label_N, squared_N = nearest_codes(residuals(aligned_NMD, present_NM, primary, label_N), secondary)
            found[name] |= _level(size, name, "secondary", cluster_quality(label_N, size.num_secondary, squared_N))
    for name, metrics in found.items():
        for metric, row in metrics.items():
            if name == ESANS and metric == "primary smallest cluster":
                row = judged(row, f"value >= {_SMALLEST}")
            yield row
            if name != ESANS and metric.endswith("distortion"):
                yield beside(found[ESANS][metric], row)


def _level(size: Size, name: str, level: str, quality: ClusterQuality) -> dict[str, Row]:
    values = {
        "distortion": ("squared distance", quality.distortion or 0.0),
        "balance": ("share of K", quality.balance),
        "dead codes": ("codes", quality.empty),
        "smallest cluster": ("items", quality.smallest),
    }
    return {
        f"{level} {metric}": _row(size, name, f"{level} {metric}", unit, float(value), repeats=1)
        for metric, (unit, value) in values.items()
    }


def _row(size: Size, name: str, metric: str, unit: str, value: float, repeats: int | None = None) -> Row:
    case = f"codebooks: {size.num_items:,} items, {size.num_primary} and {size.num_secondary} codes"
    return Row(case, name, metric, unit, value, repeats or size.repeats)
