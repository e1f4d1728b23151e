"""Cascaded codebooks: figure 3 of the paper, a loop as reference, degenerate catalogues, warm start."""

from itertools import permutations

import numpy as np
import pytest

from esans_core.clusters.cluster_quality import label_churn
from esans_core.clusters.codebooks import Codebooks, fit_codebooks, mean_view, residuals

pytest.importorskip("faiss")


def make_items(count: int = 400, *, seed: int = 0, missing: float = 0.2, dim: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Unit views around eight centres, some missing; the last item has none at all."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((8, 1, dim)) * 2
    aligned = centres[rng.integers(8, size=count)] + rng.standard_normal((count, 3, dim)) * 0.6
    aligned /= np.linalg.norm(aligned, axis=2, keepdims=True)
    present = rng.random((count, 3)) >= missing
    present[-1] = False
    return (aligned * present[:, :, None]).astype(np.float32), present


OPTIONS = {"num_primary": 8, "num_secondary": 6, "min_cluster_size": 5, "seed": 0}


def slow_assign(codebooks: Codebooks, aligned: np.ndarray, present: np.ndarray) -> tuple[list[int], list[int], list[float]]:
    primary, secondary, distance = [], [], []
    for views, here in zip(aligned, present, strict=True):
        if not here.any():
            primary.append(-1)
            secondary.append(-1)
            distance.append(np.nan)
            continue
        mean = views[here].astype(float).mean(axis=0)
        gaps = [
            np.linalg.norm(mean - c) if on else np.inf for c, on in zip(codebooks.primary_PD, codebooks.active_P, strict=True)
        ]
        code = int(np.argmin(gaps))
        residual = np.concatenate([v - codebooks.primary_PD[code] if on else 0 * v for v, on in zip(views, here, strict=True)])
        book = codebooks.secondary_CSE[code if codebooks.per_primary else 0]
        primary.append(code)
        secondary.append(int(np.argmin([np.linalg.norm(residual.astype(float) - c) for c in book])))
        distance.append(gaps[code])
    return primary, secondary, distance


@pytest.mark.parametrize("per_primary", [False, True])
def test_assignment_equals_the_loop_whatever_the_block(per_primary: bool) -> None:
    aligned, present = make_items()
    codebooks, _ = fit_codebooks(aligned, present, secondary_per_primary=per_primary, **OPTIONS)
    assert codebooks.secondary_CSE.shape == (8 if per_primary else 1, 6, 24)
    codebooks.active_P[2] = False  # as if repair had retired a code
    assigned = codebooks.assign(aligned, present)
    primary, secondary, distance = slow_assign(codebooks, aligned, present)
    assert assigned.primary.tolist() == primary and assigned.secondary.tolist() == secondary
    np.testing.assert_allclose(assigned.distance, distance, rtol=1e-5)
    assert (assigned.primary.dtype, assigned.secondary.dtype, assigned.distance.dtype) == (np.int32, np.int32, np.float32)
    assert assigned.primary[-1] == assigned.secondary[-1] == -1 and np.isnan(assigned.distance[-1])
    for block_rows in (1, 13, 399):
        again = codebooks.assign(aligned, present, block_rows=block_rows)
        assert np.array_equal(again.primary, assigned.primary) and np.array_equal(again.secondary, assigned.secondary)
        assert np.array_equal(again.distance, assigned.distance, equal_nan=True)


def test_figure_3_equal_means_and_different_views_share_only_the_primary_cluster() -> None:
    """Items with one mean differ only in which view pulls which way; the concatenated residual sees it, a mean cannot."""
    rng = np.random.default_rng(0)
    count, pull = 60, 0.3 * np.eye(6)[4]
    centre = np.repeat(np.eye(6)[:2], count, axis=0)  # two primary clusters
    kind = np.tile([0, 1], count)
    sign = np.where(kind == 0, 1.0, -1.0)[:, None]
    aligned = np.stack([centre + sign * pull, centre - sign * pull, centre], axis=1)
    aligned = (aligned + rng.normal(0, 0.01, aligned.shape)).astype(np.float32)
    present = np.ones((2 * count, 3), bool)
    codebooks, _ = fit_codebooks(aligned, present, num_primary=2, num_secondary=2, min_cluster_size=5, seed=0)
    assigned = codebooks.assign(aligned, present)

    def agreement(labels: np.ndarray) -> float:
        return max(float((np.array(order)[labels] == kind).mean()) for order in permutations(range(2)))

    assert len(set(assigned.primary[:count])) == len(set(assigned.primary[count:])) == 1
    assert assigned.primary[0] != assigned.primary[-1]
    assert agreement(assigned.secondary) == 1

    # The same fit where the secondary level is shown the mean residual instead: it cannot tell the kinds apart.
    mean = np.repeat(mean_view(aligned, present)[:, None], 3, axis=1)
    blind, _ = fit_codebooks(mean, present, num_primary=2, num_secondary=2, min_cluster_size=5, seed=0)
    assert agreement(blind.assign(mean, present).secondary) < 0.7


def test_a_missing_view_is_left_out_of_the_mean_and_has_no_residual() -> None:
    aligned, present = make_items(50)
    mean = mean_view(aligned, present)
    for views, here, row in zip(aligned, present, mean, strict=True):
        np.testing.assert_allclose(row, views[here].mean(axis=0) if here.any() else 0, atol=1e-6)
    residual = residuals(aligned, present, mean, np.arange(50)).reshape(50, 3, -1)
    assert (residual[~present] == 0).all() and (residual[present] != 0).any(axis=1).sum() > 0
    one_view = present.sum(axis=1) == 1
    assert one_view.any()
    np.testing.assert_allclose(residual[one_view], 0, atol=1e-6)


@pytest.mark.parametrize("per_primary", [False, True])
def test_fit_keeps_clusters_large_enough_and_reports(per_primary: bool) -> None:
    rng = np.random.default_rng(5)
    aligned, present = make_items(300)
    aligned[:6] = 30 * rng.standard_normal((6, 1, 8))  # outliers, each a cluster of its own
    aligned[:6] *= present[:6, :, None]
    options = OPTIONS | {"min_cluster_size": 10}
    codebooks, report = fit_codebooks(aligned, present, secondary_per_primary=per_primary, **options)
    assigned = codebooks.assign(aligned, present)
    sizes = np.bincount(assigned.primary[assigned.primary >= 0], minlength=8)
    assert tuple(sizes) == report.sizes and (sizes[sizes > 0] >= 10).all()
    assert min(report.sizes_before) < 10 and report.repairs
    assert {repair.code for repair in report.repairs} <= set(range(8))
    assert report.retired == tuple(np.flatnonzero(~codebooks.active_P)) == tuple(np.flatnonzero(sizes == 0))
    assert report.primary.num_items == present.any(axis=1).sum() and report.primary.smallest == sizes[sizes > 0].min()
    pairs = {*zip(assigned.primary.tolist(), assigned.secondary.tolist(), strict=True)} - {(-1, -1)}
    assert report.pairs_in_use == len(pairs)
    seen = assigned.primary >= 0
    assert report.primary.distortion == pytest.approx(float((assigned.distance[seen].astype(float) ** 2).mean()), rel=1e-5)


def test_small_clusters_with_a_codebook_of_their_own() -> None:
    """Five items and sixteen codes: each item gets a code and no code is out of range."""
    aligned, present = make_items(100, missing=0)
    codebooks, report = fit_codebooks(
        aligned, present, num_primary=8, num_secondary=16, min_cluster_size=5, secondary_per_primary=True, seed=0
    )
    assigned = codebooks.assign(aligned, present)
    for code, size in enumerate(report.sizes):
        used = set(assigned.secondary[assigned.primary == code].tolist())
        assert used <= set(range(min(size, 16)))
    assert np.isfinite(codebooks.secondary_CSE).all()


def test_one_cluster() -> None:
    aligned, present = make_items(40)
    codebooks, report = fit_codebooks(aligned, present, num_primary=1, num_secondary=1, min_cluster_size=5, seed=0)
    assigned = codebooks.assign(aligned, present)
    assert set(assigned.primary[:-1]) <= {0, -1} and report.sizes == (int(present.any(axis=1).sum()),)


def test_all_views_identical() -> None:
    aligned = np.tile(np.eye(8, dtype=np.float32)[0], (60, 3, 1))
    present = np.ones((60, 3), bool)
    codebooks, report = fit_codebooks(aligned, present, **OPTIONS)
    assigned = codebooks.assign(aligned, present)
    assert len(set(assigned.primary)) == len(set(assigned.secondary)) == 1
    assert sum(size > 0 for size in report.sizes) == 1 and len(report.retired) == 7
    np.testing.assert_allclose(assigned.distance, 0, atol=1e-5)


def test_too_few_items() -> None:
    aligned, present = make_items(30, missing=0)
    with pytest.raises(ValueError, match="29 items with a view cannot fill 8 primary clusters of at least 5.*40 are needed"):
        fit_codebooks(aligned, present, **OPTIONS)
    with pytest.raises(ValueError, match="64 secondary codes"):
        fit_codebooks(aligned, present, num_primary=2, num_secondary=64, min_cluster_size=5, seed=0)


def test_fit_is_deterministic_and_arrays_round_trip() -> None:
    aligned, present = make_items()
    first, _ = fit_codebooks(aligned, present, **OPTIONS)
    second, _ = fit_codebooks(aligned, present, **OPTIONS)
    assert all(np.array_equal(value, second.to_arrays()[name]) for name, value in first.to_arrays().items())
    again = Codebooks.from_arrays(first.to_arrays())
    assert np.array_equal(again.assign(aligned, present).primary, first.assign(aligned, present).primary)


@pytest.mark.parametrize("per_primary", [False, True])
def test_warm_start_keeps_labels(per_primary: bool) -> None:
    aligned, present = make_items(600)
    first, cold = fit_codebooks(aligned, present, secondary_per_primary=per_primary, **OPTIONS)
    before = first.assign(aligned, present)
    more, more_present = (np.concatenate(parts) for parts in zip((aligned, present), make_items(40, seed=0), strict=True))
    labels = {}
    for name, initial, seed in (("warm", first, 0), ("cold", None, 1)):
        options = OPTIONS | {"seed": seed, "secondary_per_primary": per_primary}
        codebooks, report = fit_codebooks(more, more_present, initial=initial, **options)
        assert report.warm is (name == "warm")
        labels[name] = codebooks.assign(aligned, present).primary
    assert label_churn(before.primary, labels["warm"]) < 0.05 < 0.5 < label_churn(before.primary, labels["cold"])
    assert not cold.warm

    unchanged, _ = fit_codebooks(aligned, present, initial=first, secondary_per_primary=per_primary, **OPTIONS)
    after = unchanged.assign(aligned, present)
    assert label_churn(before.primary, after.primary) <= 0.01 and label_churn(before.secondary, after.secondary) <= 0.05


def test_initial_codebooks_of_other_shapes_are_refused() -> None:
    aligned, present = make_items()
    first, _ = fit_codebooks(aligned, present, **OPTIONS)
    with pytest.raises(ValueError, match="other shapes"):
        fit_codebooks(aligned, present, initial=first, **OPTIONS | {"num_primary": 7})
    with pytest.raises(ValueError, match="do not fit"):
        first.assign(aligned[:, :2], present[:, :2])
