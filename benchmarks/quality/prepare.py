"""Makes the data sets of the quality benchmark, each as one file under `var/bench/quality/data`.

python -m benchmarks.quality.prepare movielens --source /path/to/movielens-posters
python -m benchmarks.quality.prepare tiktok --source /path/to/tiktok
python -m benchmarks.quality.prepare quick shop-100k-low shop-100k-mid shop-100k-high
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from sklearn.utils.extmath import randomized_svd

from benchmarks.quality.data import BEHAVIOUR, DATA, SPLITS, QualityData, event_users, in_split, sequences_from_events
from benchmarks.quality.frozen import HOLDOUT_DAYS, SHOPS, VALIDATION_DAYS, Shop
from esans_core.sequences import Sequences
from jobs.base.settings import FeatureSettings, ShopSettings
from jobs.features.encoders.text import HashedTextEncoder
from jobs.features.encoders.visual import DescriptorEncoder
from jobs.shop import pictures
from jobs.shop.generators import events_of, world_of
from jobs.shop.texts import describe
from jobs.shop.world import World
from jobs.source.picture_content import decode_picture

FEATURES = DATA.parent / "features"
TEST_SHARE, VALIDATION_SHARE = 0.2, 0.1
_BLOCK = 2_000  # items described at once; an interrupted run loses at most these
_BEHAVIOUR_SEED = 7
_DECODED_SIDE = 512  # longest side of a picture that is described; a change would make other data sets (frozen.py)


def movielens(source: Path) -> QualityData:
    """MovieLens with posters: ratings as events, each user's latest 20 % held out. Item rows ascend by item_id."""
    log = pd.read_parquet(source / "interactions.parquet")
    items = pd.read_parquet(source / "items.parquet").sort_values("item_id", ignore_index=True)
    images = pd.read_parquet(source / "images.parquet").set_index("item_id")["image"].reindex(items["item_id"])
    sequences = split_by_share(
        user=pd.factorize(log["user_id"], sort=True)[0],
        item=pd.Index(items["item_id"]).get_indexer(log["item_id"]),
        timestamp=log["timestamp"].to_numpy(),
    )
    views = {
        "visual": _stacked(_described(list(images))),
        "text": text_view(list(items["title"]), list(items["text"])),
    }
    return _with_behaviour("movielens", sequences, views, len(items))


def tiktok(source: Path) -> QualityData:
    """TikTok in the split of the multimodal-recommendation literature. It has no times, so a user's events are in random order.

    The file lists them by item id, and the held-out item is always the user's largest id. A tower that took the file's order
    for a history would learn that the next id is larger, and would find the held-out items in this way.
    """
    log = pd.read_parquet(source / "interactions.parquet").sample(frac=1, random_state=0)
    items = pd.read_parquet(source / "item_features.parquet").sort_values("item_id", ignore_index=True)
    code = log["split"].map({"train": 0, "valid": 1, "test": 2}).to_numpy()
    user, item = log["user_id"].to_numpy(np.int64), pd.Index(items["item_id"]).get_indexer(log["item_id"])
    sequences = sequences_from_events(user, item, code, int(user.max()) + 1)
    views = {name: np.stack(items[name].tolist()).astype(np.float32) for name in ("visual", "acoustic")}
    return _with_behaviour("tiktok", sequences, views, len(items))


def shop_data(name: str, shop: Shop, features: Path = FEATURES, workers: int = 1) -> QualityData:
    """An embedded shop, split by time, with its planted truth."""
    world = world_of(ShopSettings(**asdict(shop)))
    items, users = np.arange(world.num_items(0)), np.arange(world.num_users(0))
    leaf = world.item_leaf(items)
    folder = features_folder(world, features)
    views = {"visual": shop_pictures(world, leaf, folder, workers), "text": shop_texts(world, leaf, folder)}
    liked = np.sort(world.user_leaves(users, -HOLDOUT_DAYS - VALIDATION_DAYS), axis=1)
    liked[:, 1:][liked[:, 1:] == liked[:, :-1]] = -2  # a leaf that fills two slots counts once
    return _with_behaviour(
        name, shop_sequences(world), views, len(items), torch.from_numpy(leaf).long(), torch.from_numpy(liked).long()
    )


def split_by_share(user: np.ndarray, item: np.ndarray, timestamp: np.ndarray) -> Sequences:
    """Each user's latest fifth is the hold-out, and the latest tenth of the rest is validation, both rounded to whole events.

    A user with three or more events before the hold-out has at least one in validation. Equal times are ordered by item.

    Args:
        user: int64 [E], 0..U-1, each with an event.
        item: int64 [E].
        timestamp: int64 [E].
    """
    order = np.lexsort((item, timestamp, user))
    user, item = user[order], item[order]
    count = np.bincount(user)
    held = np.round(TEST_SHARE * count).astype(np.int64)
    rest = count - held
    checked = np.maximum(np.round(VALIDATION_SHARE * rest).astype(np.int64), rest >= 3)
    from_end = np.cumsum(count)[user] - np.arange(len(user))  # 1 for the latest
    split = (from_end <= (held + checked)[user]).astype(np.int64) + (from_end <= held[user])
    return sequences_from_events(user, item, split, len(count))


def shop_sequences(world: World) -> Sequences:
    """All days of a shop up to day 0, split by time. A user-item pair counts once, at its first time, as in ingestion."""
    days = range(1 - world.shop.num_days, 1)
    events = [events_of(world, day) for day in days]
    user, item = np.concatenate([day.user for day in events]), np.concatenate([day.item for day in events])
    when = np.repeat(np.array(days), [len(day.user) for day in events])
    _, first = np.unique(user * world.num_items(0) + item, return_index=True)
    first.sort()  # back to the order of time
    split = (when > -HOLDOUT_DAYS - VALIDATION_DAYS).astype(np.int64) + (when > -HOLDOUT_DAYS)
    return sequences_from_events(user[first], item[first], split[first], world.num_users(0))


def features_folder(world: World, features: Path) -> Path:
    """Where the described items of a shop are kept; shops that differ only in noise share it."""
    generator = "" if world.shop.generator == "v1" else f"{world.shop.generator}-"
    key = f"{generator}{world.shop.num_items}-{world.seed}-{pictures.VERSION}-{DescriptorEncoder().fingerprint}"
    folder = features / "".join(letter if letter.isalnum() else "-" for letter in key)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def shop_pictures(world: World, leaf: np.ndarray, folder: Path, workers: int = 1) -> np.ndarray:
    """Visual vectors of a shop's items, float32 [N, F], NaN without a picture; kept in blocks, so it can be interrupted."""
    starts = range(0, len(leaf), _BLOCK)
    missing = [start for start in starts if not (folder / f"{start:08d}.npy").exists()]
    began, draw = time.monotonic(), partial(_describe_block, world.shop, folder)
    blocks = [leaf[start : start + _BLOCK] for start in missing]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for done, _ in enumerate(pool.map(draw, missing, blocks) if workers > 1 else map(draw, missing, blocks), 1):
            print(f"pictures: block {done} of {len(missing)}, {time.monotonic() - began:.0f} s", flush=True)
    return np.concatenate([np.load(folder / f"{start:08d}.npy") for start in starts])


def _describe_block(shop: ShopSettings, folder: Path, start: int, leaf: np.ndarray) -> None:
    world = world_of(shop)
    items = start + np.arange(len(leaf))
    shown = np.flatnonzero(pictures.has_picture(world, items))
    drawn = [pictures.draw_item(world, int(items[row]), int(leaf[row])) for row in shown]
    vectors: list[np.ndarray | None] = [None] * len(items)
    for row, vector in zip(shown, _described(drawn), strict=True):
        vectors[row] = vector
    _save_whole(folder / f"{start:08d}.npy", _stacked(vectors))


def _described(images: Sequence[bytes | None]) -> list[np.ndarray | None]:
    """Visual vectors, float32 [F]; None for data that is no picture."""
    encoder = DescriptorEncoder()
    decoded = [decode_picture(data or b"", _DECODED_SIDE).image for data in images]
    return [None if picture is None else encoder.encode([picture])[0] for picture in decoded]


def shop_texts(world: World, leaf: np.ndarray, folder: Path) -> np.ndarray:
    """Text view of a shop's items, float32 [N, D], NaN where an item has no text; kept like the pictures."""
    path = folder / f"text-{HashedTextEncoder.VERSION}.npy"
    if not path.exists():
        texts = [describe(world, item, world.look(item, number)) for item, number in enumerate(leaf.tolist())]
        _save_whole(path, text_view([text.title for text in texts], [text.text for text in texts]))
    return np.load(path)


def _save_whole(path: Path, values: np.ndarray) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("wb") as file:
        np.save(file, values)
    temporary.replace(path)


def text_view(titles: Sequence[str | None], texts: Sequence[str | None]) -> np.ndarray:
    """Titles and texts by the pipeline's own encoder, fitted on all distinct texts; float32 [N, D], NaN without any."""
    payload = [_payload((title or "").strip(), (text or "").strip()) for title, text in zip(titles, texts, strict=True)]
    encoder = HashedTextEncoder.fit(sorted(set(payload) - {""}), FeatureSettings().text_dim)
    vectors = np.concatenate([encoder.encode(payload[start : start + 10_000]) for start in range(0, len(payload), 10_000)])
    vectors[~vectors.any(axis=1)] = np.nan
    return vectors


def _payload(title: str, text: str) -> str:
    return text if title and text.startswith(title) else "\n".join(part for part in (title, text) if part)


def behaviour_view(sequences: Sequences, num_items: int) -> np.ndarray:
    """The behaviour view: a truncated SVD of the training log, float32 [N, <= 64], unit rows, NaN below 3 training events.

    For an event of a user with n_u events and an item with n_i events, the matrix holds 1 / sqrt((n_u + mean n)(n_i + mean n)).
    Without the means, users and items that share nothing with the others take the leading directions, on TikTok half of them.
    """
    settings = FeatureSettings()
    train = in_split(sequences, "train")
    item, user = sequences.items[train].numpy(), event_users(sequences)[train].numpy()
    of_item, of_user = np.bincount(item, minlength=num_items), sequences.num_train.numpy()
    smooth_item, smooth_user = (count + count[count > 0].mean() for count in (of_item, of_user))
    values = (smooth_user[user] * smooth_item[item]) ** -0.5
    matrix = sp.csr_matrix((values, (item, user)), (num_items, sequences.num_users))
    rank = min(settings.behaviour_dim, min(matrix.shape) - 1)
    left, strength, _ = randomized_svd(matrix, rank, n_iter=5, random_state=_BEHAVIOUR_SEED)
    vectors = left * strength
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    vectors[of_item < settings.min_behaviour_events] = np.nan
    return vectors.astype(np.float32)


def _with_behaviour(
    name: str,
    sequences: Sequences,
    views: dict[str, np.ndarray],
    num_items: int,
    leaf: torch.Tensor | None = None,
    liked_leaves: torch.Tensor | None = None,
) -> QualityData:
    arrays = views | {BEHAVIOUR: behaviour_view(sequences, num_items)}
    return QualityData.of(name, sequences, {key: torch.from_numpy(array) for key, array in arrays.items()}, leaf, liked_leaves)


def _stacked(vectors: Sequence[np.ndarray | None]) -> np.ndarray:
    """The vectors as float32 [N, D], with NaN in place of None."""
    size = next(len(vector) for vector in vectors if vector is not None)
    return np.stack([np.full(size, np.nan, np.float32) if vector is None else vector for vector in vectors])


def build(name: str, source: Path | None, workers: int) -> QualityData:
    """Make one data set by its name."""
    if name in SHOPS:
        return shop_data(name, SHOPS[name], workers=workers)
    if source is None:
        raise SystemExit(f"{name} needs --source: the folder with its tables")
    return {"movielens": movielens, "tiktok": tiktok}[name](source)


def describe_data(data: QualityData) -> str:
    """Sizes of a data set on one line."""
    events = {split: int(in_split(data.sequences, split).sum()) for split in SPLITS}
    users = {split: len(data.sequences.evaluation_users(split)) for split in SPLITS[1:]}
    missing = {name: f"{float(values[:, 0].isnan().float().mean()):.1%}" for name, values in data.views.items()}
    return (
        f"{data.name}: {data.num_items:,} items ({int((data.num_train == 0).sum()):,} without training events), "
        f"{data.sequences.num_users:,} users, events {events}, evaluated users {users}, missing views {missing}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=["movielens", "tiktok", *SHOPS])
    parser.add_argument("--source", type=Path, help="folder with the tables of a real data set")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw and describe pictures")
    arguments = parser.parse_args()
    for name in arguments.names:
        began, path = time.monotonic(), DATA / f"{name}.npz"
        build(name, arguments.source, arguments.workers).save(path)
        print(describe_data(QualityData.load(path)))
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MB, made in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
