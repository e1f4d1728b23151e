"""Orthogonal Procrustes against brute force, a planted rotation, and degenerate cases."""

import numpy as np
import pytest

from esans_core.clusters.procrustes import ProcrustesSums


def random_rotation(dim: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]


def fitted(new: np.ndarray, old: np.ndarray, batch: int = 10_000):
    sums = ProcrustesSums.empty(new.shape[1])
    for start in range(0, len(new), batch):
        part = ProcrustesSums.empty(new.shape[1])
        part.add(new[start : start + batch], old[start : start + batch])
        sums.merge(part)
    return sums.fit()


def test_a_planted_rotation_is_found_whatever_the_batches_and_lengths() -> None:
    random = np.random.default_rng(0)
    old = random.normal(size=(300, 7)).astype(np.float32)
    turned = random_rotation(7, 1)
    new = (old @ turned.T * random.uniform(0.1, 9, (300, 1))).astype(np.float32)
    found = fitted(new, old, batch=77)
    np.testing.assert_allclose(found.matrix, turned, atol=1e-6)
    assert found.cosine_after == pytest.approx(1, abs=1e-6) and found.cosine_before < 0.5


def test_no_orthogonal_matrix_in_the_plane_does_better() -> None:
    random = np.random.default_rng(3)
    new, old = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in random.normal(size=(2, 40, 2)))
    found = fitted(new, old)
    best = -1.0
    for angle in np.linspace(0, 2 * np.pi, 3601):
        cos, sin = np.cos(angle), np.sin(angle)
        for matrix in (np.array([[cos, -sin], [sin, cos]]), np.array([[cos, sin], [sin, -cos]])):
            best = max(best, float(((new @ matrix) * old).sum(axis=1).mean()))
    assert found.cosine_after == pytest.approx(best, abs=1e-5)
    assert found.cosine_after == pytest.approx(float(((new @ found.matrix) * old).sum(axis=1).mean()), abs=1e-12)
    assert found.cosine_before == pytest.approx(float((new * old).sum(axis=1).mean()), abs=1e-12)


def test_geometry_among_the_turned_vectors_stays_and_batches_do_not_show() -> None:
    random = np.random.default_rng(5)
    new, old = random.normal(size=(2, 200, 6)).astype(np.float32)
    rotation = fitted(new, old)
    np.testing.assert_allclose(rotation.matrix @ rotation.matrix.T, np.eye(6), atol=1e-12)
    turned = rotation.apply(new)
    for vectors, residual in ((new, rotation.residual_before), (turned, rotation.residual_after)):
        units = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (vectors, old)]
        assert np.sqrt(((units[0] - units[1]) ** 2).sum(axis=1).mean()) == pytest.approx(residual, abs=1e-5)
    assert turned.dtype == np.float32
    np.testing.assert_allclose(turned @ turned.T, new @ new.T, atol=1e-4)
    np.testing.assert_array_equal(
        turned, np.concatenate([rotation.apply(new[start : start + 9]) for start in range(0, 200, 9)])
    )


def test_fewer_pairs_than_dimensions_still_give_a_rotation() -> None:
    new, old = np.eye(5)[:1], np.eye(5)[2:3]
    rotation = fitted(new, old)
    np.testing.assert_allclose(rotation.matrix @ rotation.matrix.T, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(rotation.apply(new), old, atol=1e-7)


def test_zero_vectors_count_as_nothing_and_bad_shapes_are_refused() -> None:
    sums = ProcrustesSums.empty(3)
    sums.add(np.zeros((2, 3)), np.ones((2, 3)))
    with pytest.raises(ValueError, match="no pairs"):
        sums.fit()
    with pytest.raises(ValueError, match=r"expected two arrays \[n, 3\]"):
        sums.add(np.ones((2, 4)), np.ones((2, 4)))
