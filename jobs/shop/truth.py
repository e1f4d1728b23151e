"""The hidden truth of the embedded shop, to measure whether clusters follow its hierarchy and negatives are really negative."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.lake.tables import Lake


@dataclass(frozen=True)
class HiddenTruth:
    """The hidden world on one date, by the indices of the lake.

    Attributes:
        category: int64 [N], -1 for an item that the shop does not know.
        leaf: int64 [N], -1 likewise.
        liked_leaves: int64 [U, L], leaves that each user really likes on the date, padded with -2.
    """

    category: NDArray[np.int64]
    leaf: NDArray[np.int64]
    liked_leaves: NDArray[np.int64]

    @classmethod
    def load(cls, settings: PipelineSettings) -> "HiddenTruth | None":
        """The truth of the run's date; None if there is none, as for any source but the embedded shop.

        Raises:
            DataError: the lake has no `items` or `users` of that date yet.
        """
        folder = settings.home / "truth" / f"date={settings.ds}"
        if settings.data.source != EMBEDDED or not (folder / "items.parquet").exists():
            return None
        lake = Lake.of(settings)
        item_ids = lake.read_pandas("items", settings.date, ["item_index", "item_id"]).sort_values("item_index")["item_id"]
        user_ids = lake.read_pandas("users", settings.date, ["user_index", "user_id"]).sort_values("user_index")["user_id"]
        items = pq.read_table(folder / "items.parquet").to_pandas().set_index("item_id")
        known = items[["category", "leaf"]].reindex(item_ids).fillna(-1).astype(np.int64)
        liked = pq.read_table(folder / "users.parquet").to_pandas().set_index("user_id")["leaves"]
        padded = _padded([np.asarray(leaves) for leaves in liked])
        row = pd.Index(liked.index).get_indexer(pd.Index(user_ids))
        by_index = np.where((row >= 0)[:, None], padded[row], -2)
        return cls(known["category"].to_numpy(), known["leaf"].to_numpy(), by_index)

    def cluster_agreement(self, clusters: pd.DataFrame) -> dict[str, float]:
        """How well the clusters recover the hidden hierarchy. 1 is perfect, 0 is chance (ARI) or no information (NMI).

        Args:
            clusters: columns item_index, primary, secondary; items without a cluster (primary -1) are left out.

        Returns:
            nmi_category and ari_category compare primary clusters with categories; nmi_leaf and ari_leaf compare
            (primary, secondary) pairs with leaves.
        """
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # nothing else here needs it

        items = clusters["item_index"].to_numpy()
        used = (clusters["primary"].to_numpy() >= 0) & (self.leaf[items] >= 0)
        primary = clusters["primary"].to_numpy()[used]
        pair = clusters.groupby(["primary", "secondary"]).ngroup().to_numpy()[used]
        category, leaf = self.category[items][used], self.leaf[items][used]
        return {
            "nmi_category": float(normalized_mutual_info_score(category, primary)),
            "ari_category": float(adjusted_rand_score(category, primary)),
            "nmi_leaf": float(normalized_mutual_info_score(leaf, pair)),
            "ari_leaf": float(adjusted_rand_score(leaf, pair)),
        }

    def false_negative_mask(self, user_index: NDArray[np.integer], item_index: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether each drawn negative is an item that its user really likes.

        Args:
            user_index: int [B].
            item_index: int [B, n], items drawn as negatives for each user.

        Returns:
            bool [B, n].
        """
        return (self.leaf[item_index][:, :, None] == self.liked_leaves[user_index][:, None, :]).any(axis=-1)


def _padded(rows: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    lengths = np.array([len(row) for row in rows])
    out = np.full((len(rows), max(int(lengths.max(initial=0)), 1)), -2, dtype=np.int64)
    out[np.arange(out.shape[1]) < lengths[:, None]] = np.concatenate([*rows, np.empty(0, dtype=np.int64)])
    return out
