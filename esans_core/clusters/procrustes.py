"""Rotates one set of vectors onto another with the same meaning, because the axes of each fit are random.

Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 31 (1966).
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass
class ProcrustesSums:
    """The sums over pairs of vectors that the fit needs, added up over batches; they take D x D memory for any number of pairs.

    Only the direction of a vector counts, so that no popular item outweighs the others.

    Attributes:
        cross: float64 [D, D], sum of the outer products of old and new unit vectors, by columns of the new one.
        count: pairs added.
    """

    cross: np.ndarray
    count: int = 0

    @classmethod
    def empty(cls, dim: int) -> "ProcrustesSums":
        """Sums over no pairs yet, for vectors with `dim` numbers each."""
        return cls(np.zeros((dim, dim)))

    def add(self, new: np.ndarray, old: np.ndarray) -> None:
        """Add pairs: rows of new and old, [n, D] of any float type. A pair with a zero vector is left out.

        Raises:
            ValueError: the shapes differ, or are not [n, D].
        """
        if new.shape != old.shape or new.shape[1:] != self.cross.shape[1:]:
            raise ValueError(f"expected two arrays [n, {len(self.cross)}], got {new.shape} and {old.shape}")
        new, old = new.astype(np.float64), old.astype(np.float64)
        lengths = np.linalg.norm(new, axis=1) * np.linalg.norm(old, axis=1)
        real = lengths > 0
        self.cross += new[real].T @ (old[real] / lengths[real, None])
        self.count += int(real.sum())

    def merge(self, other: "ProcrustesSums") -> None:
        """Add the pairs of other sums to these."""
        self.cross += other.cross
        self.count += other.count

    def fit(self) -> "Rotation":
        """The orthogonal matrix that brings the new vectors nearest to the old ones, in the sum of squared distances.

        Raises:
            ValueError: no pairs.
        """
        if not self.count:
            raise ValueError("no pairs of vectors to fit a rotation on")
        left, singular, right = np.linalg.svd(self.cross)
        return Rotation(left @ right, float(np.trace(self.cross)) / self.count, float(singular.sum()) / self.count)


@dataclass(frozen=True)
class Rotation:
    """A rotation, with or without a reflection.

    Attributes:
        matrix: float64 [D, D], orthogonal; `new @ matrix` is in the old axes.
        cosine_before: mean cosine of the pairs before the rotation.
        cosine_after: mean cosine of the pairs after it.
    """

    matrix: np.ndarray
    cosine_before: float
    cosine_after: float

    @property
    def residual_before(self) -> float:
        """Root mean square distance of the pairs' unit vectors before the rotation."""
        return math.sqrt(max(0.0, 2 - 2 * self.cosine_before))

    @property
    def residual_after(self) -> float:
        """The same after the rotation. The fit minimises this."""
        return math.sqrt(max(0.0, 2 - 2 * self.cosine_after))

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors [n, D] in the old axes, float32. Their lengths and the angles between them stay the same.

        The sums are in float64 and in a fixed order, row by row, so the result does not depend on how rows are batched.
        """
        return np.einsum("ij,jk->ik", vectors.astype(np.float64), self.matrix, optimize=False).astype(np.float32)
