"""Nearest code of each vector. Codebooks are fitted, repaired and assigned with it.

Shapes: N vectors, K codes, D dimensions, B vectors of one block, P candidate pairs (vector, code).
"""

import numpy as np

_SCORES_PER_BLOCK = 1 << 20  # 4 MB of float32 scores: they are read three times, so they should stay in the cache
_VALUES_PER_BLOCK = 1 << 17  # 1 MB of float64 differences


def nearest_codes(x_ND: np.ndarray, codes_KD: np.ndarray, *, block_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest code by Euclidean distance, at the cost of one single-precision matrix product.

    `|c|^2 - 2 x.c` in float32 proposes every code within the product's rounding bound of the best one (nearly always
    one code). The distances of those few are then computed in float64, row by row. So the answer equals that of a slow
    float64 loop, and depends neither on the block size nor on how BLAS orders its sums. Ties go to the lowest code.

    Args:
        x_ND: float32 [N, D].
        codes_KD: float32 [K, D], K >= 1.
        block_rows: vectors held at once; by default as many as keep the score matrix at 4 MB.

    Returns:
        Code of each vector, int32 [N], and the squared distance to it, float64 [N].

    Raises:
        ValueError: there are no codes, the dimensions differ, or a value is not finite.
    """
    if codes_KD.ndim != 2 or not len(codes_KD) or x_ND.ndim != 2 or x_ND.shape[1] != codes_KD.shape[1]:
        raise ValueError(f"expected vectors [N, D] and codes [K >= 1, D], got {list(x_ND.shape)} and {list(codes_KD.shape)}")
    x_ND = np.ascontiguousarray(x_ND, dtype=np.float32)
    codes_KD = np.ascontiguousarray(codes_KD, dtype=np.float32)
    exact_KD = codes_KD.astype(np.float64)
    norm_K = np.einsum("kd,kd->k", exact_KD, exact_KD)
    # Each vector gets a 1 appended, and each -2c gets |c|^2 appended, so that their product is the score.
    table_EK = np.ascontiguousarray(np.column_stack([-2 * codes_KD, norm_K.astype(np.float32)]).T)
    largest = float(np.sqrt(norm_K.max()))
    rows = block_rows or max(256, _SCORES_PER_BLOCK // len(codes_KD))
    label_N = np.empty(len(x_ND), np.int32)
    squared_N = np.empty(len(x_ND), np.float64)
    for start in range(0, len(x_ND), rows):
        block = slice(start, start + rows)
        label_N[block], squared_N[block] = _nearest_in_block(x_ND[block], exact_KD, table_EK, largest)
    return label_N, squared_N


def _nearest_in_block(
    x_BD: np.ndarray, exact_KD: np.ndarray, table_EK: np.ndarray, largest: float
) -> tuple[np.ndarray, np.ndarray]:
    rows_B = np.arange(len(x_BD))
    score_BK = np.column_stack([x_BD, np.ones(len(x_BD), np.float32)]) @ table_EK
    label_B = score_BK.argmin(axis=1)
    best_B = score_BK[rows_B, label_B]
    # A sum of n float32 products is off by at most n u sum|terms| (u = 2^-24) in any order. The bound is twice that, because
    # two scores are compared. Instead of n = D + 1 it takes D + 4: one more for the rounding of the norm, and two to be safe.
    magnitude_B = 2 * largest * np.sqrt(np.einsum("bd,bd->b", x_BD, x_BD)) + largest * largest
    limit_B = best_B + 2 * (x_BD.shape[1] + 4) * 2.0**-24 * magnitude_B
    if not (np.isfinite(best_B).all() and np.isfinite(limit_B).all()):
        raise ValueError("vectors and codes must be finite (a NaN, an infinity, or values beyond the range of float32)")
    squared_B = _squared_distances(x_BD, exact_KD, rows_B, label_B)
    score_BK[rows_B, label_B] = np.inf
    close_B = np.flatnonzero(score_BK[rows_B, score_BK.argmin(axis=1)] <= limit_B)
    if len(close_B):
        score_BK[rows_B, label_B] = best_B
        proposed = score_BK[close_B] <= limit_B[close_B, None]
        label_B[close_B], squared_B[close_B] = _nearest_of(x_BD[close_B], exact_KD, *np.nonzero(proposed))
    return label_B.astype(np.int32), squared_B


def _nearest_of(x_BD: np.ndarray, exact_KD: np.ndarray, row_P: np.ndarray, code_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest of the codes proposed for each row. The pairs are in ascending order, and each row is in at least one."""
    squared_P = _squared_distances(x_BD, exact_KD, row_P, code_P)
    squared_B = np.minimum.reduceat(squared_P, np.flatnonzero(np.diff(row_P, prepend=-1)))
    winner_P = np.flatnonzero(squared_P == squared_B[row_P])
    winner_B = winner_P[np.flatnonzero(np.diff(row_P[winner_P], prepend=-1))]
    return code_P[winner_B], squared_B


def _squared_distances(x_BD: np.ndarray, exact_KD: np.ndarray, row_P: np.ndarray, code_P: np.ndarray) -> np.ndarray:
    out_P = np.empty(len(row_P), np.float64)
    step = max(1, _VALUES_PER_BLOCK // max(1, x_BD.shape[1]))
    for start in range(0, len(row_P), step):
        pairs = slice(start, start + step)
        gap = np.take(exact_KD, code_P[pairs], axis=0)
        gap -= x_BD[row_P[pairs]]
        out_P[pairs] = np.einsum("pd,pd->p", gap, gap)
    return out_P
