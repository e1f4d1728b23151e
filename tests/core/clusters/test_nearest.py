"""The nearest-code kernel against a loop in float64."""

import numpy as np
import pytest

from esans_core.clusters.nearest import nearest_codes


def slow_nearest(x: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    squared = np.array([[((row.astype(float) - code) ** 2).sum() for code in codes] for row in x])
    return squared.argmin(axis=1), squared.min(axis=1)


@pytest.mark.parametrize(("count", "num_codes", "dim"), [(200, 17, 5), (50, 1, 3), (1, 4, 2), (64, 64, 1)])
def test_equals_the_loop(count: int, num_codes: int, dim: int) -> None:
    rng = np.random.default_rng(count)
    x, codes = rng.standard_normal((count, dim)).astype(np.float32), rng.standard_normal((num_codes, dim)).astype(np.float32)
    label, squared = nearest_codes(x, codes)
    expected, expected_squared = slow_nearest(x, codes)
    assert label.dtype == np.int32 and squared.dtype == np.float64
    assert (label == expected).all()
    np.testing.assert_allclose(squared, expected_squared, rtol=1e-12, atol=1e-15)


def test_exact_where_single_precision_cannot_tell_codes_apart() -> None:
    """Far from the origin |c|^2 - 2xc loses all digits of the distance; the answer must not."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((300, 8)) * 0.01 + 50).astype(np.float32)
    codes = (rng.standard_normal((20, 8)) * 0.01 + 50).astype(np.float32)
    naive = ((codes * codes).sum(axis=1) - 2 * x @ codes.T).argmin(axis=1)
    expected = slow_nearest(x, codes)[0]
    assert (naive != expected).any(), "the case is meant to be hard"
    assert (nearest_codes(x, codes)[0] == expected).all()


def test_block_size_does_not_show() -> None:
    rng = np.random.default_rng(2)
    x, codes = rng.standard_normal((1000, 24)).astype(np.float32), rng.standard_normal((40, 24)).astype(np.float32)
    codes[20:] = codes[:20]  # every code twice: ties in each row
    label, squared = nearest_codes(x, codes)
    assert label.max() < 20, "ties go to the lowest code"
    for block_rows in (1, 3, 64, 999):
        again, again_squared = nearest_codes(x, codes, block_rows=block_rows)
        assert np.array_equal(label, again) and np.array_equal(squared, again_squared)


def test_no_vectors() -> None:
    label, squared = nearest_codes(np.zeros((0, 4), np.float32), np.ones((3, 4), np.float32))
    assert label.shape == squared.shape == (0,)


def test_bad_input() -> None:
    x, codes = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    for bad in (np.full((1, 3), np.nan, np.float32), np.full((1, 3), np.inf, np.float32)):
        with pytest.raises(ValueError, match="finite"), np.errstate(invalid="ignore"):
            nearest_codes(bad, codes)
        with pytest.raises(ValueError, match="finite"), np.errstate(invalid="ignore"):
            nearest_codes(x, bad)
    with pytest.raises(ValueError, match="expected vectors"):
        nearest_codes(x, codes[:0])
    with pytest.raises(ValueError, match="expected vectors"):
        nearest_codes(x, codes[:, :2])
