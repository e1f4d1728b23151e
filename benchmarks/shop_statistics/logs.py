"""Logs in one form: those of real data sets, read from a folder, and those of the embedded shops, drawn here.

Only statistics leave this package. No row of a log and no text of an item is written anywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from jobs.base.settings import ShopSettings
from jobs.shop.generators import events_of, world_of
from jobs.shop.texts import describe

CLUSTER_SIZE = 32  # items in a cluster made from content, on average; a leaf of the shop of 3,000 items has as many
DAY = 86_400
_CLUSTERED_DIM = 64
_SEED = 0


@dataclass(frozen=True)
class Log:
    """One log, sorted by user and then by time.

    Shape legend: E events, N items, F content features.

    Attributes:
        name: its column in the table.
        user: int64 [E], 0..U-1, each with an event.
        item: int64 [E], 0..N-1.
        time: float64 [E], seconds; None if the log has no times. Amazon's are known up to a start for each user.
        ordered: whether a user's events are in the order of time.
        dated: whether times of different users can be compared.
        content: float32 [N, F], unit rows, zero where an item has no content; None if no item has any.
        cluster: int64 [N], -1 for an item without content; None if no item has any.
    """

    name: str
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    time: NDArray[np.float64] | None = None
    ordered: bool = True
    dated: bool = False
    content: sp.csr_matrix | None = None
    cluster: NDArray[np.int64] | None = None

    @property
    def num_items(self) -> int:
        """N: items with an event, and those of the catalogue that come before them in the numbering."""
        return int(self.item.max()) + 1 if self.content is None else self.content.shape[0]

    @property
    def num_users(self) -> int:
        """U."""
        return int(self.user[-1]) + 1


def real_logs(folder: Path) -> dict[str, Callable[[], Log]]:
    """How to read each real log, by the name of its column. Folders that are not there are left out.

    Args:
        folder: holds `movielens-posters`, `tiktok` and `published`, each with `interactions.parquet` and a table of items.
    """
    published = folder / "published"
    places: dict[str, tuple[Path, Callable[[str, Path], Log]]] = {
        "MovieLens": (folder / "movielens-posters", _movielens),
        "TikTok": (folder / "tiktok", _tiktok),
        "Beauty": (published / "s3rec_beauty", _ordered),
        "Sports": (published / "s3rec_sports", _ordered),
        "Yelp": (published / "s3rec_yelp", _ordered),
        "Beauty, 54k items": (published / "amazon_beauty_54k", _ordered),
        "Gowalla": (published / "gowalla", _gowalla),
    }
    return {
        name: (lambda name=name, path=path, read=read: read(name, path))  # type: ignore[misc]
        for name, (path, read) in places.items()
        if (path / "interactions.parquet").exists()
    }


def shop_log(name: str, shop: ShopSettings) -> Log:
    """The log of an embedded shop on its first run date. Its clusters are the planted leaves, its content is its texts."""
    world = world_of(shop)
    days = [events_of(world, day) for day in range(1 - shop.num_days, 1)]
    user, item, time = (np.concatenate([getattr(day, part) for day in days]) for part in ("user", "item", "timestamp"))
    leaf = world.item_leaf(np.arange(world.num_items(0)))
    said = (describe(world, number, world.look(number, place)) for number, place in enumerate(leaf.tolist()))
    content = _of_texts([f"{text.title or ''} {text.text or ''}" for text in said])
    log = _log(name, user, item, time.astype(np.float64), dated=True)
    return replace(log, content=content, cluster=leaf)


def _movielens(name: str, folder: Path) -> Log:
    events, items = pd.read_parquet(folder / "interactions.parquet"), pd.read_parquet(folder / "items.parquet")
    item = pd.Index(items["item_id"]).get_indexer(events["item_id"])
    log = _log(name, events["user_id"].to_numpy(), item, events["timestamp"].to_numpy(np.float64), dated=True)
    return _with_content(log, _of_texts(items["text"].fillna("").tolist()))


def _tiktok(name: str, folder: Path) -> Log:
    events, items = pd.read_parquet(folder / "interactions.parquet"), pd.read_parquet(folder / "item_features.parquet")
    item = pd.Index(items["item_id"]).get_indexer(events["item_id"])
    views = [normalize(np.stack(items[view].tolist()).astype(np.float32)) for view in ("visual", "acoustic")]
    centred = [view - view.mean(0) for view in views]  # the views' means are long, so all items would look alike
    return _with_content(
        replace(_log(name, events["user_id"].to_numpy(), item), ordered=False), sp.csr_matrix(normalize(np.hstack(centred)))
    )


def _ordered(name: str, folder: Path) -> Log:
    events, items = pd.read_parquet(folder / "interactions.parquet"), pd.read_parquet(folder / "items.parquet")
    events = events.sort_values(["user_id", "order"], kind="stable", ignore_index=True)
    item = pd.Index(items["item_id"]).get_indexer(events["item_id"])
    time = events.groupby("user_id")["gap_s"].cumsum().to_numpy(np.float64) if "gap_s" in events else None
    log = _log(name, events["user_id"].to_numpy(), item, time, sort=False)
    if items["text"].isna().mean() > 0.5:
        return log
    known = [" ".join(f"attribute{value}" for value in values) for values in items["attributes"]]
    return _with_content(log, _of_texts([f"{text} {more}" for text, more in zip(items["text"].fillna(""), known, strict=True)]))


def _gowalla(name: str, folder: Path) -> Log:
    events = pd.read_parquet(folder / "interactions.parquet")
    return replace(_log(name, events["user_id"].to_numpy(), events["item_id"].to_numpy()), ordered=False)


def _log(
    name: str,
    user: NDArray,
    item: NDArray,
    time: NDArray[np.float64] | None = None,
    *,
    dated: bool = False,
    sort: bool = True,
) -> Log:
    if not sort:
        order = np.arange(len(user))
    elif time is None:  # a set: a random order, so that no rule can read the order of the file
        order = np.lexsort((np.random.default_rng(_SEED).random(len(user)), user))
    else:
        order = np.lexsort((time, user))
    dense = np.unique(user[order], return_inverse=True)[1]
    return Log(name, dense, item[order].astype(np.int64), None if time is None else time[order], dated=dated)


def _with_content(log: Log, content: sp.csr_matrix) -> Log:
    """The log with clusters from k-means on the content: as many as give `CLUSTER_SIZE` items each."""
    known = np.diff(content.indptr) > 0
    count = round(known.sum() / CLUSTER_SIZE)
    reduced = normalize(TruncatedSVD(_CLUSTERED_DIM, random_state=_SEED).fit_transform(content[known]))
    means = MiniBatchKMeans(count, batch_size=4096, n_init=1, random_state=_SEED).fit(reduced)
    cluster = np.full(content.shape[0], -1)
    cluster[known] = means.labels_
    return replace(log, content=content, cluster=cluster)


def _of_texts(texts: list[str]) -> sp.csr_matrix:
    """Unit vectors of texts: TF-IDF of words, float32 [N, words]. Zero for a text without words that others have too."""
    return TfidfVectorizer(min_df=2, sublinear_tf=True, dtype=np.float32).fit_transform(texts).tocsr()
