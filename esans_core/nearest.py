"""Nearest code of each vector: the kernel under fitting, repairing and assigning codebooks.

Shapes: N vectors, K codes, D dimensions, B vectors of one block, P candidate pairs (vector, code).
"""

import numpy as np

_SCORES_PER_BLOCK = 1 << 22  # 16 MB of float32 scores
_PAIRS_PER_BLOCK = 1 << 15


def nearest_codes(x_ND: np.ndarray, codes_KD: np.ndarray, *, block_rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Exact nearest code by Euclidean distance, at the price of one single-precision matrix product.

    `|c|^2 - 2 x.c` in float32 proposes every code within the product's rounding bound of the best one (nearly always
    one code); the distances of those few are then computed in float64, row by row. So the answer is the one of a slow
    float64 loop, and depends neither on the block size nor on how BLAS orders its sums. Ties go to the lowest code.

    Args:
        x_ND: float32 [N, D].
        codes_KD: float32 [K, D], K >= 1.
        block_rows: vectors held at once; by default as many as keep the score matrix at 16 MB.

    Returns:
        Code of each vector, int32 [N], and the squared distance to it, float64 [N].

    Raises:
        ValueError: no codes, unequal dimensions, or a value that is not finite.
    """
    if codes_KD.ndim != 2 or not len(codes_KD) or x_ND.ndim != 2 or x_ND.shape[1] != codes_KD.shape[1]:
        raise ValueError(f"expected vectors [N, D] and codes [K >= 1, D], got {list(x_ND.shape)} and {list(codes_KD.shape)}")
    x_ND = np.ascontiguousarray(x_ND, dtype=np.float32)
    codes_KD = np.ascontiguousarray(codes_KD, dtype=np.float32)
    norm_K = np.einsum("kd,kd->k", codes_KD, codes_KD)
    rows = block_rows or max(256, _SCORES_PER_BLOCK // len(codes_KD))
    label_N = np.empty(len(x_ND), np.int32)
    squared_N = np.empty(len(x_ND), np.float64)
    for start in range(0, len(x_ND), rows):
        block = slice(start, start + rows)
        label_N[block], squared_N[block] = _nearest_in_block(x_ND[block], codes_KD, norm_K)
    return label_N, squared_N


def _nearest_in_block(x_BD: np.ndarray, codes_KD: np.ndarray, norm_K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    score_BK = x_BD @ codes_KD.T
    score_BK *= -2
    score_BK += norm_K
    best_B = score_BK.min(axis=1)
    # A sum of n float32 products is off by at most n u sum|terms| (u = 2^-24), whatever its order; twice that, as two
    # scores are compared, and four more operations make a score.
    largest = float(np.sqrt(norm_K.max()))
    magnitude_B = 2 * largest * np.sqrt(np.einsum("bd,bd->b", x_BD, x_BD)) + largest * largest
    slack_B = 2 * (x_BD.shape[1] + 4) * 2.0**-24 * magnitude_B
    if not (np.isfinite(best_B).all() and np.isfinite(slack_B).all()):
        raise ValueError("vectors and codes must be finite (a NaN, an infinity, or values beyond the range of float32)")
    row_P, code_P = np.nonzero(score_BK <= (best_B + slack_B)[:, None])
    squared_P = _squared_distances(x_BD, codes_KD, row_P, code_P)
    first_B = np.flatnonzero(np.diff(row_P, prepend=-1))
    squared_B = np.minimum.reduceat(squared_P, first_B) if len(first_B) else np.empty(0)
    winner_P = np.flatnonzero(squared_P == squared_B[row_P])
    winner_B = winner_P[np.flatnonzero(np.diff(row_P[winner_P], prepend=-1))]
    return code_P[winner_B].astype(np.int32), squared_B


def _squared_distances(x_BD: np.ndarray, codes_KD: np.ndarray, row_P: np.ndarray, code_P: np.ndarray) -> np.ndarray:
    out_P = np.empty(len(row_P), np.float64)
    for start in range(0, len(row_P), _PAIRS_PER_BLOCK):
        pairs = slice(start, start + _PAIRS_PER_BLOCK)
        gap = x_BD[row_P[pairs]].astype(np.float64) - codes_KD[code_P[pairs]]
        out_P[pairs] = np.einsum("pd,pd->p", gap, gap)
    return out_P
