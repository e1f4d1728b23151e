"""Top items of many users by inner product, without the items each has seen: exact, or only from the nearest lists.

It needs faiss (`pip install "esans-core[cluster]"`), which is imported only where it is used.

Shapes: N items, D dimensions, B users, E seen items of all users of a call.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

Kind = Literal["exact", "ivf"]

_LISTS_PER_ROOT = 4  # lists for each square root of N: faiss's advice for up to a million items
_TRAINED_PER_LIST = 64  # items that k-means sees for each list
_ITEMS, _LISTS, _META = "item_embeddings.npy", "lists.faiss", "index.json"


class RetrievalIndex:
    """Items to search, in memory or mapped from a folder that many processes share.

    The same users in one call get the same answers, with any number of threads. If several items have the same score, their
    order is not specified.

    Args:
        items_ND: float32 [N, D], N >= 1.
        lists: a faiss IVF index over them; None searches exactly.

    Attributes:
        probes: how many lists a search looks into. With more lists it finds more of the exact answer, but takes longer.
    """

    def __init__(self, items_ND: np.ndarray, lists: Any = None, *, probes: int = 8) -> None:
        self.items_ND, self._lists, self.probes = items_ND, lists, probes

    @classmethod
    def build(cls, items_ND: np.ndarray, kind: Kind = "exact") -> "RetrievalIndex":
        """An index over items.

        Args:
            items_ND: float32 [N, D], N >= 1.
            kind: "exact" compares with every item. "ivf" sorts the items into 4 sqrt(N) lists by k-means (Jegou, Douze and
                Schmid, TPAMI 2011, without their compression). One thread does this, so the same items give the same lists.

        Raises:
            ValueError: the shape is another one, or a value is not finite.
        """
        items_ND = np.ascontiguousarray(items_ND, dtype=np.float32)
        if items_ND.ndim != 2 or not items_ND.size or not np.isfinite(items_ND).all():
            raise ValueError(f"expected finite item embeddings [N >= 1, D >= 1], got {list(items_ND.shape)}")
        if kind == "exact":
            return cls(items_ND)
        import faiss

        size, dim = items_ND.shape
        count = min(size, max(1, int(_LISTS_PER_ROOT * size**0.5)))
        lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, count, faiss.METRIC_INNER_PRODUCT)
        lists.cp.niter, lists.cp.min_points_per_centroid, lists.cp.max_points_per_centroid = 10, 1, _TRAINED_PER_LIST
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        lists.train(items_ND)
        lists.add(items_ND)
        faiss.omp_set_num_threads(threads)
        return cls(items_ND, lists)

    @property
    def kind(self) -> Kind:
        """How it searches."""
        return "exact" if self._lists is None else "ivf"

    @property
    def num_lists(self) -> int:
        """Number of lists; 1 if every search is exact."""
        return 1 if self._lists is None else int(self._lists.nlist)

    def exact(self) -> "RetrievalIndex":
        """The same items, searched exactly."""
        return RetrievalIndex(self.items_ND)

    def save(self, folder: Path) -> None:
        """Write the index into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / _ITEMS, self.items_ND, allow_pickle=False)
        if self._lists is not None:
            import faiss

            faiss.write_index(self._lists, str(folder / _LISTS))
        (folder / _META).write_text(json.dumps({"kind": self.kind, "probes": self.probes}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "RetrievalIndex":
        """An index that `save` wrote. Large arrays are mapped, so the processes of a machine share their memory."""
        items_ND = np.load(folder / _ITEMS, mmap_mode="r", allow_pickle=False)
        meta = json.loads((folder / _META).read_text())
        lists = None
        if meta["kind"] == "ivf":
            import faiss

            lists = faiss.read_index(str(folder / _LISTS), faiss.IO_FLAG_MMAP)
        return cls(items_ND, lists, probes=meta["probes"])

    def search(self, users_BD: np.ndarray, k: int, seen: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each user among those not seen; fewer only if the catalogue has no more.

        Args:
            users_BD: float32 [B, D].
            k: how many items.
            seen: offsets int64 [B + 1] and item rows int64 [E]: user b has seen `rows[offsets[b]:offsets[b + 1]]`, in any
                order, also more than once.

        Returns:
            Item rows int64 [B, k], best first, and their scores float32 [B, k]; -1 and -inf where no item is left.
        """
        offsets, rows = seen
        users_BD = np.ascontiguousarray(users_BD, dtype=np.float32)
        items_BK = np.full((len(users_BD), k), -1, np.int64)
        scores_BK = np.full((len(users_BD), k), -np.inf, np.float32)
        # Users who have seen similar numbers of items are searched together, so that a long history widens no other search.
        width_B = 2 ** np.ceil(np.log2(np.maximum(np.diff(offsets), 1))).astype(np.int64)
        for width in np.unique(width_B):
            chosen = np.flatnonzero(width_B == width)
            part = _part(offsets, rows, chosen)
            items_BK[chosen], scores_BK[chosen] = self._search(
                users_BD[chosen], k, min(k + int(width), len(self.items_ND)), part
            )
        return items_BK, scores_BK

    def _search(
        self, users_BD: np.ndarray, k: int, fetch: int, seen: tuple[np.ndarray, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """`search` for users who have each seen at most fetch - k items, unless fetch is N."""
        offsets, rows = seen
        size = len(self.items_ND)
        scores_BF, items_BF = self._nearest(users_BD, fetch)
        seen_E = np.repeat(np.arange(len(users_BD)), np.diff(offsets)) * size + rows
        known_BF = np.isin(np.arange(len(users_BD))[:, None] * size + items_BF, seen_E) | (items_BF < 0)
        place_BK = known_BF.argsort(axis=1, kind="stable")[:, :k]
        known_BK = np.take_along_axis(known_BF, place_BK, axis=1)
        items_BK = np.where(known_BK, -1, np.take_along_axis(items_BF, place_BK, axis=1))
        scores_BK = np.where(known_BK, -np.inf, np.take_along_axis(scores_BF, place_BK, axis=1))
        missing = ((0, 0), (0, k - items_BK.shape[1]))
        items_BK = np.pad(items_BK, missing, constant_values=-1)
        scores_BK = np.pad(scores_BK, missing, constant_values=-np.inf)
        if self._lists is not None and len(short := np.flatnonzero(items_BK[:, -1] < 0)):
            # The lists looked into may hold fewer items than were asked for.
            items_BK[short], scores_BK[short] = self.exact()._search(users_BD[short], k, fetch, _part(offsets, rows, short))
        return items_BK, scores_BK

    def _nearest(self, users_BD: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        if self._lists is None:
            scores_BF, items_BF = faiss.knn(users_BD, self.items_ND, count, metric=faiss.METRIC_INNER_PRODUCT)
        else:
            parameters = faiss.SearchParametersIVF()
            parameters.nprobe = min(self.probes, self.num_lists)
            scores_BF, items_BF = self._lists.search(users_BD, count, params=parameters)
        return scores_BF, items_BF.astype(np.int64)


def _part(offsets: np.ndarray, rows: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of some users, as offsets and rows."""
    runs = [rows[offsets[user] : offsets[user + 1]] for user in chosen]
    return np.concatenate([[0], np.cumsum([len(run) for run in runs])]), np.concatenate(runs)
