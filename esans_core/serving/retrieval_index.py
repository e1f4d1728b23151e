"""Top items of many users by inner product, without the items each has seen: exact, or only from the nearest lists.

An index may hold some rows of a catalogue only. Those that it does not hold are never found, but may be among the seen.

It needs faiss (`pip install ".[cluster]"`), which is imported only where it is used.

Shapes: N items of the catalogue, A items in the index, D dimensions, B users, E seen items of all users of a call.
"""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np

Kind = Literal["exact", "ivf"]

_LISTS_PER_ROOT = 4  # lists for each square root of N: faiss's advice for up to a million items
_TRAINED_PER_LIST = 64  # items that k-means sees for each list
_ITEMS_PER_BLOCK = 65_536  # chosen items that are compared at a time, since they are copied for it
_ITEMS, _ROWS, _LISTS, _META = "item_embeddings.npy", "item_rows.npy", "lists.faiss", "index.json"


class RetrievalIndex:
    """Items to search, in memory or mapped from a folder that many processes share.

    The same users in one call get the same answers, with any number of threads. If several items have the same score, their
    order is not specified.

    Args:
        items_AD: float32 [A, D], A >= 1.
        lists: a faiss IVF index over them; None searches exactly.
        rows_A: int64 [A], ascending: the row of each in the catalogue; None if it holds the whole catalogue.

    Attributes:
        probes: how many lists a search looks into. With more lists it finds more of the exact answer, but takes longer.
    """

    def __init__(self, items_AD: np.ndarray, lists: Any = None, rows_A: np.ndarray | None = None, *, probes: int = 8) -> None:
        self.items_AD, self._lists, self.rows_A, self.probes = items_AD, lists, rows_A, probes

    @classmethod
    def build(cls, items_AD: np.ndarray, kind: Kind = "exact", rows_A: np.ndarray | None = None) -> "RetrievalIndex":
        """An index over items.

        Args:
            items_AD: float32 [A, D], A >= 1.
            kind: "exact" compares with every item. "ivf" sorts the items into 4 sqrt(N) lists by k-means (Jegou, Douze and
                Schmid, TPAMI 2011, without their compression). One thread does this, so the same items give the same lists.
            rows_A: int64 [A], ascending: the row of each in the catalogue; None if these are all.

        Raises:
            ValueError: the shape is another one, or a value is not finite.
        """
        items_AD = np.ascontiguousarray(items_AD, dtype=np.float32)
        if items_AD.ndim != 2 or not items_AD.size or not np.isfinite(items_AD).all():
            raise ValueError(f"expected finite item embeddings [A >= 1, D >= 1], got {list(items_AD.shape)}")
        if kind == "exact":
            return cls(items_AD, None, rows_A)
        import faiss

        size, dim = items_AD.shape
        count = min(size, max(1, int(_LISTS_PER_ROOT * size**0.5)))
        lists = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, count, faiss.METRIC_INNER_PRODUCT)
        lists.cp.niter, lists.cp.min_points_per_centroid, lists.cp.max_points_per_centroid = 10, 1, _TRAINED_PER_LIST
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        lists.train(items_AD)
        lists.add(items_AD)
        faiss.omp_set_num_threads(threads)
        return cls(items_AD, lists, rows_A)

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
        return RetrievalIndex(self.items_AD, None, self.rows_A)

    def save(self, folder: Path) -> None:
        """Write the index into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / _ITEMS, self.items_AD, allow_pickle=False)
        if self.rows_A is not None:
            np.save(folder / _ROWS, self.rows_A, allow_pickle=False)
        if self._lists is not None:
            import faiss

            faiss.write_index(self._lists, str(folder / _LISTS))
        (folder / _META).write_text(json.dumps({"kind": self.kind, "probes": self.probes}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "RetrievalIndex":
        """An index that `save` wrote. Large arrays are mapped, so the processes of a machine share their memory."""
        items_AD = np.load(folder / _ITEMS, mmap_mode="r", allow_pickle=False)
        meta = json.loads((folder / _META).read_text())
        rows_A = np.load(folder / _ROWS, mmap_mode="r", allow_pickle=False) if (folder / _ROWS).exists() else None
        lists = None
        if meta["kind"] == "ivf":
            import faiss

            lists = faiss.read_index(str(folder / _LISTS), faiss.IO_FLAG_MMAP)
        return cls(items_AD, lists, rows_A, probes=meta["probes"])

    def vectors(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The embeddings of some rows of the catalogue.

        Args:
            rows: int64 [R].

        Returns:
            bool [R], which rows the index holds, and float32 [R, D], zeros for those that it does not hold.
        """
        if self.rows_A is None:
            held = (rows >= 0) & (rows < len(self.items_AD))
            places = np.where(held, rows, 0)
        else:
            places = np.searchsorted(self.rows_A, rows).clip(max=len(self.rows_A) - 1)
            held = self.rows_A[places] == rows
        return held, np.where(held[:, None], self.items_AD[places], np.float32(0))

    def search(
        self, users_BD: np.ndarray, k: int, seen: tuple[np.ndarray, np.ndarray], allowed_N: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items of each user among those not seen; fewer only if there are no more.

        Args:
            users_BD: float32 [B, D].
            k: how many items.
            seen: offsets int64 [B + 1] and item rows int64 [E]: user b has seen `rows[offsets[b]:offsets[b + 1]]`, in any
                order, also more than once.
            allowed_N: bool [N], the items that may be found; None: all that the index holds.

        Returns:
            Item rows int64 [B, k], best first, and their scores float32 [B, k]; -1 and -inf where no item is left.
        """
        offsets, rows = seen
        users_BD = np.ascontiguousarray(users_BD, dtype=np.float32)
        items_BK = np.full((len(users_BD), k), -1, np.int64)
        scores_BK = np.full((len(users_BD), k), -np.inf, np.float32)
        chosen = self._chosen(allowed_N)
        most = len(self.items_AD) if chosen is None else len(chosen)
        if not most:
            return items_BK, scores_BK
        # Users who have seen similar numbers of items are searched together, so that a long history widens no other search.
        width_B = 2 ** np.ceil(np.log2(np.maximum(np.diff(offsets), 1))).astype(np.int64)
        for width in np.unique(width_B):
            group = np.flatnonzero(width_B == width)
            part = _part(offsets, rows, group)
            items_BK[group], scores_BK[group] = self._search(users_BD[group], k, min(k + int(width), most), part, chosen)
        return items_BK, scores_BK

    def _chosen(self, allowed_N: np.ndarray | None) -> np.ndarray | None:
        """int64, the places in the index of the items that may be found, ascending; None if these are all."""
        if allowed_N is None:
            return None
        allowed_A = allowed_N if self.rows_A is None else allowed_N[self.rows_A]
        return None if allowed_A.all() else np.flatnonzero(allowed_A)

    def _search(
        self, users_BD: np.ndarray, k: int, fetch: int, seen: tuple[np.ndarray, np.ndarray], chosen: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """`search` for users who have each seen at most fetch - k items, unless fetch is all that may be found."""
        offsets, rows = seen
        scores_BF, items_BF = self._nearest(users_BD, fetch, chosen)
        size = 1 + max(int(items_BF.max(initial=0)), int(rows.max(initial=0)))
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
            part = _part(offsets, rows, short)
            items_BK[short], scores_BK[short] = self.exact()._search(users_BD[short], k, fetch, part, chosen)
        return items_BK, scores_BK

    def _nearest(self, users_BD: np.ndarray, count: int, chosen: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores and rows of the best items of each user, [B, count] each; -1 where a search of lists found no more."""
        import faiss

        probes = min(self.probes, self.num_lists)
        if chosen is not None:  # as many of the chosen items are looked at as of all items without a choice
            probes = min(-(-probes * len(self.items_AD) // len(chosen)), self.num_lists)
        if self._lists is None or (chosen is not None and probes == self.num_lists):
            scores_BF, places_BF = self._compared(users_BD, count, chosen)
        else:
            parameters = faiss.SearchParametersIVF()
            parameters.nprobe = probes
            if chosen is not None:
                bits = np.zeros(len(self.items_AD), bool)
                bits[chosen] = True
                packed = np.packbits(bits, bitorder="little")
                parameters.sel = faiss.IDSelectorBitmap(len(packed), faiss.swig_ptr(packed))
            scores_BF, places_BF = self._lists.search(users_BD, count, params=parameters)
        places_BF = places_BF.astype(np.int64)
        rows_BF = places_BF if self.rows_A is None else self.rows_A[places_BF.clip(min=0)]
        return scores_BF, np.where(places_BF < 0, -1, rows_BF)

    def _compared(self, users_BD: np.ndarray, count: int, chosen: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores and places of the best `count` items of each user, all of them (or all that are chosen) compared."""
        import faiss

        if chosen is None:
            return faiss.knn(users_BD, self.items_AD, count, metric=faiss.METRIC_INNER_PRODUCT)
        scores_BF, places_BF = np.zeros((len(users_BD), 0), np.float32), np.zeros((len(users_BD), 0), np.int64)
        for start in range(0, len(chosen), _ITEMS_PER_BLOCK):
            places = chosen[start : start + _ITEMS_PER_BLOCK]
            block, most = np.ascontiguousarray(self.items_AD[places]), min(count, len(places))
            scores, found = faiss.knn(users_BD, block, most, metric=faiss.METRIC_INNER_PRODUCT)
            scores_BF = np.concatenate([scores_BF, scores], axis=1)
            places_BF = np.concatenate([places_BF, places[found]], axis=1)
            best_BF = (-scores_BF).argsort(axis=1, kind="stable")[:, :count]
            scores_BF = np.take_along_axis(scores_BF, best_BF, axis=1)
            places_BF = np.take_along_axis(places_BF, best_BF, axis=1)
        return scores_BF, places_BF


def _part(offsets: np.ndarray, rows: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The runs of some users, as offsets and rows."""
    runs = [rows[offsets[user] : offsets[user + 1]] for user in chosen]
    return np.concatenate([[0], np.cumsum([len(run) for run in runs])]), np.concatenate(runs)
