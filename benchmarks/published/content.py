"""Views of a log's items from what is known of them without anybody's behaviour: texts and attributes.

Shape legend: N items, D dimensions of a view.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer, TfidfVectorizer

DIM = 64
_SEED = 0


def text_view(texts: Sequence[str | None], dim: int = DIM) -> np.ndarray:
    """TF-IDF of the words, then a truncated SVD; float32 [N, <= D], unit rows, NaN for an item without a text."""
    counted = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform([text or "" for text in texts])
    return _reduced(counted, dim)


def attribute_view(attributes: Sequence[Sequence[int] | None], dim: int = DIM) -> np.ndarray:
    """The same for sets of attribute numbers; NaN for an item without any. A number means nothing but equality."""
    row = [place for place, found in enumerate(attributes) for _ in (() if found is None else found)]
    column = np.unique([number for found in attributes for number in (() if found is None else found)], return_inverse=True)[1]
    counted = sp.csr_matrix((np.ones(len(row)), (row, column)), (len(attributes), int(column.max(initial=0)) + 1))
    return _reduced(TfidfTransformer().fit_transform(counted), dim)


def _reduced(weighed: sp.csr_matrix, dim: int) -> np.ndarray:
    rank = min(dim, min(weighed.shape) - 1)
    if rank < 1:
        return np.full((weighed.shape[0], 1), np.nan, np.float32)
    vectors = TruncatedSVD(rank, random_state=_SEED).fit_transform(weighed)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(norm > 1e-6, vectors / np.maximum(norm, 1e-6), np.nan).astype(np.float32)
