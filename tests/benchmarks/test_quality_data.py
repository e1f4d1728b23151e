"""Data, clusters and yardsticks of the quality benchmark."""

import json
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from benchmarks.quality import yardsticks
from benchmarks.quality.clusters import Clusters, cluster_facts, fit_clusters, random_clusters
from benchmarks.quality.data import QualityData, event_users, in_split, sequences_from_events, slices
from benchmarks.quality.frozen import SHOPS, Shop
from benchmarks.quality.prepare import behaviour_view, shop_data, shop_sequences, split_by_share, tiktok
from benchmarks.quality.ranking import evaluate_scores, events_before, means
from esans_core.sequences import Sequences
from jobs.base.settings import ShopSettings
from jobs.ranking.evaluate import catalogue_slices
from jobs.shop.events import day_events
from jobs.shop.world import World

TINY = Shop(num_items=120, num_users=60, num_days=8)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> QualityData:
    return shop_data("tiny", TINY, tmp_path_factory.mktemp("features"))


def log_of(num_users: int = 40, num_items: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    lists = [random.permutation(num_items)[: random.integers(1, num_items)] for _ in range(num_users)]
    user = np.repeat(np.arange(num_users), [len(items) for items in lists])
    shuffled = random.permutation(len(user))
    return user[shuffled], np.concatenate(lists)[shuffled], random.integers(0, 50, len(user))


def data_of(sequences: Sequences, num_items: int) -> QualityData:
    views = {"visual": torch.rand(num_items, 4), "behaviour": torch.rand(num_items, 2)}
    return QualityData.of("small", sequences, views)


def test_split_by_share_keeps_every_event_once_and_the_order_of_time() -> None:
    user, item, timestamp = log_of()
    sequences = split_by_share(user, item, timestamp)
    assert sorted(zip(event_users(sequences).tolist(), sequences.items.tolist(), strict=True)) == sorted(
        zip(user.tolist(), item.tolist(), strict=True)
    )
    when = dict(zip(zip(user.tolist(), item.tolist(), strict=True), timestamp.tolist(), strict=True))
    for number in range(sequences.num_users):
        items = sequences.items[sequences.offsets[number] : sequences.offsets[number + 1]].tolist()
        keys = [(when[number, one], one) for one in items]
        assert keys == sorted(keys)
        count, held = len(items), round(0.2 * len(items))
        rest = count - held
        assert int(sequences.num_validation[number]) == max(round(0.1 * rest), rest >= 3)
        assert int(sequences.num_train[number]) == rest - int(sequences.num_validation[number])


def test_sequences_from_events_sorts_by_user_and_split_alone() -> None:
    user, item = np.array([1, 0, 1, 1, 0]), np.array([5, 4, 3, 2, 1])
    sequences = sequences_from_events(user, item, np.array([2, 0, 0, 0, 1]), num_users=3)
    assert sequences.items.tolist() == [4, 1, 3, 2, 5]
    assert sequences.offsets.tolist() == [0, 2, 5, 5]
    assert sequences.num_train.tolist() == [1, 2, 0]
    assert sequences.num_validation.tolist() == [1, 0, 0]


def test_tiktok_keeps_the_official_split(tmp_path) -> None:
    import pandas as pd

    log = {
        "user_id": [0, 0, 0, 1] + [2] * 9,
        "item_id": [2, 0, 1, 1, *range(9)],
        "split": ["train", "valid", "test"] + ["train"] * 10,
    }
    pd.DataFrame(log).to_parquet(tmp_path / "interactions.parquet")
    vectors = np.random.default_rng(0).random((9, 2)).tolist()
    pd.DataFrame({"item_id": range(9), "visual": vectors, "acoustic": vectors}).to_parquet(tmp_path / "item_features.parquet")
    data = tiktok(tmp_path)
    assert data.sequences.items.tolist()[:4] == [2, 0, 1, 1]
    assert data.sequences.num_train.tolist() == [1, 1, 9] and data.sequences.num_validation.tolist() == [1, 0, 0]
    ordered = data.sequences.items.tolist()[4:]
    assert sorted(ordered) == list(range(9)) != ordered, "the order of the file tells what is held out"
    assert list(data.views) == ["visual", "acoustic", "behaviour"] and data.content.shape == (9, 4)


def test_shop_is_split_by_day_and_a_pair_counts_once(shop: QualityData) -> None:
    world = World(ShopSettings(generator="v1", num_items=120, num_users=60, num_days=8))
    first_day: dict[tuple[int, int], int] = {}
    for day in range(-7, 1):
        events = day_events(world, day)
        for pair in zip(events.user.tolist(), events.item.tolist(), strict=True):
            first_day.setdefault(pair, day)
    users = event_users(shop.sequences)
    for split, days in (("train", range(-7, -3)), ("validation", (-3, -2)), ("holdout", (-1, 0))):
        chosen = in_split(shop.sequences, split)
        found = set(zip(users[chosen].tolist(), shop.sequences.items[chosen].tolist(), strict=True))
        assert found == {pair for pair, day in first_day.items() if day in days}
        assert len(found) == int(chosen.sum())


def test_shop_truth_is_that_of_the_end_of_training(shop: QualityData) -> None:
    world = World(ShopSettings(generator="v1", num_items=120, num_users=60, num_days=8))
    liked = world.user_leaves(np.arange(60), -4)
    assert shop.liked_leaves is not None and shop.leaf is not None
    for row, leaves in zip(shop.liked_leaves.tolist(), liked.tolist(), strict=True):
        listed = [leaf for leaf in row if leaf != -2]
        assert sorted(set(leaves)) == sorted(listed)


def test_shop_is_the_same_every_time_and_noise_changes_events_alone(shop: QualityData, tmp_path) -> None:
    again = shop_data("tiny", TINY, tmp_path)
    assert again.digest() == shop.digest()
    shop.save(tmp_path / "one.npz")
    again.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    noisy = shop_data("tiny", replace(TINY, noise=0.9), tmp_path)
    assert torch.equal(noisy.content.nan_to_num(-9), shop.content.nan_to_num(-9)) and torch.equal(noisy.leaf, shop.leaf)
    assert noisy.digest() != shop.digest()


def test_frozen_shops_differ_in_noise_alone_where_they_share_items() -> None:
    low, mid, high = (SHOPS[f"shop-100k-{level}"] for level in ("low", "mid", "high"))
    assert replace(low, noise=0) == replace(mid, noise=0) == replace(high, noise=0)
    assert low.noise < mid.noise < high.noise


def test_npz_round_trip(shop: QualityData, tmp_path) -> None:
    shop.save(tmp_path / "shop.npz")
    back = QualityData.load(tmp_path / "shop.npz")
    assert back.digest() == shop.digest() and back.name == "tiny"
    for name in ("content", "num_train", "leaf", "liked_leaves"):
        assert torch.equal(getattr(back, name).nan_to_num(-9), getattr(shop, name).nan_to_num(-9)), name
        assert getattr(back, name).dtype == getattr(shop, name).dtype, name
    for name in ("items", "offsets", "num_train", "num_validation"):
        assert torch.equal(getattr(back.sequences, name), getattr(shop.sequences, name)), name
    assert list(back.views) == ["visual", "text", "behaviour"]
    assert not list(tmp_path.glob(".*"))


def test_round_trip_without_truth(tmp_path) -> None:
    data = data_of(split_by_share(*log_of()), 30)
    data.save(tmp_path / "data.npz")
    back = QualityData.load(tmp_path / "data.npz")
    assert back.leaf is None and back.liked_leaves is None and torch.equal(back.content, data.content)


def test_slices_are_those_of_the_pipeline_and_disjoint(shop: QualityData) -> None:
    found, expected = slices(shop), catalogue_slices(shop.num_train)
    assert all(torch.equal(found[name], expected[name]) for name in ("head", "tail", "new"))
    assert torch.equal(sum(mask.long() for mask in found.values()), torch.ones(shop.num_items, dtype=torch.long))


def test_behaviour_view_sees_training_events_alone() -> None:
    sequences = split_by_share(*log_of(seed=1))
    view = behaviour_view(sequences, 31)
    count = torch.bincount(sequences.items[in_split(sequences, "train")], minlength=31).numpy()
    assert np.array_equal(np.isnan(view).any(axis=1), count < 3)
    np.testing.assert_allclose(np.linalg.norm(view[count >= 3], axis=1), 1, rtol=1e-5)
    other = sequences.items.clone()
    held = in_split(sequences, "holdout")
    other[held] = 30
    np.testing.assert_array_equal(behaviour_view(replace(sequences, items=other), 31), view)


def test_behaviour_view_is_the_truncated_svd_of_the_normalised_log() -> None:
    sequences = split_by_share(*log_of(num_users=90, num_items=20, seed=2))
    train = events_before(data_of(sequences, 20), 1).toarray().astype(float)
    of_user, of_item = train.sum(1, keepdims=True), train.sum(0)
    scale = (of_user + of_user[of_user > 0].mean()) * (of_item + of_item[of_item > 0].mean())
    x_NU = (train / np.sqrt(scale)).T
    left, strength, _ = np.linalg.svd(x_NU, full_matrices=False)
    full = (left * strength)[:, :19]
    full /= np.linalg.norm(full, axis=1, keepdims=True)
    view = behaviour_view(sequences, 20)
    known = ~np.isnan(view).any(axis=1)
    np.testing.assert_allclose((view @ view.T)[known][:, known], (full @ full.T)[known][:, known], atol=2e-3)


def test_ease_solves_each_item_by_itself() -> None:
    x_UN = (np.random.default_rng(0).random((25, 8)) < 0.4).astype(np.float64)
    scores = yardsticks.ease(sp.csr_matrix(x_UN.astype(np.float32)), l2=3.0)
    expected = np.zeros((8, 8))
    for column in range(8):  # ridge regression of one item on all the others
        others = [row for row in range(8) if row != column]
        x = x_UN[:, others]
        expected[others, column] = np.linalg.solve(x.T @ x + 3.0 * np.eye(7), x.T @ x_UN[:, column])
    history = sp.csr_matrix(x_UN[:5].astype(np.float32))
    np.testing.assert_allclose(scores(np.arange(5), history), x_UN[:5] @ expected, atol=1e-5)


def test_item_cosine_by_hand() -> None:
    train = sp.csr_matrix(np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0], [1, 1, 0]], np.float32))
    scores = yardsticks.item_cosine(train, shrink=1)(np.array([0]), sp.csr_matrix(np.array([[0, 1, 0]], np.float32)))
    np.testing.assert_allclose(scores, [[2 / (8**0.5 + 1), 2 / 3, 0]], rtol=1e-6)


def test_the_planted_taste_ranks_what_a_user_likes_by_popularity() -> None:
    train = sp.csr_matrix(np.array([[1, 1, 0, 0, 1], [1, 0, 0, 0, 0]], np.float32))
    leaf, liked = np.array([0, 1, 1, 2, 2]), np.array([[1, -2], [2, 0]])
    scores = yardsticks.planted_taste(train, leaf=leaf, liked_leaves=liked)(np.array([0, 1]), train)
    assert np.argsort(-scores, axis=1, kind="stable").tolist() == [[1, 2, 0, 4, 3], [0, 4, 3, 1, 2]]


def hand_made() -> QualityData:
    """User 0: train 0 1, validation 2, hold-out 3 5; user 1: train 0, hold-out 1; user 2: train 0 3, nothing after."""
    user, item = np.array([0, 0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 1, 2, 3, 5, 0, 1, 0, 3])
    return data_of(sequences_from_events(user, item, np.array([0, 0, 1, 2, 2, 0, 2, 0, 0]), 3), 6)


def test_popularity_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.quality.ranking.KS", (1, 2))
    monkeypatch.setattr("benchmarks.quality.ranking.NDCG_K", 2)
    monkeypatch.setattr("benchmarks.quality.ranking.SLICE_K", 2)
    data = hand_made()
    assert data.num_train.tolist() == [3, 1, 0, 1, 0, 0]
    order = torch.tensor([6.0, 5, 4, 3, 2, 1]).numpy()  # item 0 first
    found = evaluate_scores(lambda users, history: np.tile(order, (len(users), 1)), data, "holdout")
    assert found["users"].tolist() == [0, 1]
    # User 0 is shown 3 4 (0, 1 and 2 are known), one hit of two; user 1 is shown 1 2, a hit.
    assert found["recall_1"].tolist() == [0.5, 1.0] and found["recall_2"].tolist() == [0.5, 1.0]
    np.testing.assert_allclose(found["ndcg_2"], [1 / (1 + 1 / np.log2(3)), 1.0])
    np.testing.assert_array_equal(found["tail_recall_2"], [1.0, 1.0])
    np.testing.assert_array_equal(found["new_recall_2"], [0.0, np.nan])
    shown = evaluate_scores(lambda users, history: np.tile(order, (len(users), 1)), data, "holdout", history="train")
    assert shown["recall_1"].tolist() == [0.0, 1.0]  # item 2 is not masked now, and takes the first place
    assert means(found)["new_recall_2"] == 0.0 and means(found)["num_users"] == 2


def test_a_score_of_the_truth_is_perfect_and_scores_see_known_events_alone() -> None:
    data = data_of(split_by_share(*log_of(seed=3)), 30)
    known = events_before(data, 2).toarray()
    everything = events_before(data, 3).toarray()

    def truth(users: np.ndarray, history: sp.csr_matrix) -> np.ndarray:
        np.testing.assert_array_equal(history.toarray(), known[users])
        return everything[users]

    found = evaluate_scores(truth, data, "holdout")
    assert (found["recall_50"] == 1).all() and (found["ndcg_50"] > 0.999).all()


def test_yardsticks_are_tuned_on_validation_and_written_once(tmp_path) -> None:
    data = data_of(split_by_share(*log_of(num_users=80)), 30)
    for _ in range(2):
        for method in ("popularity", "item_cosine", "ease"):
            rows, per_user = yardsticks.measure(data, method)
            yardsticks.write(tmp_path, "small", method, rows, per_user)
    rows = [json.loads(line) for line in (tmp_path / "small.jsonl").read_text().splitlines()]
    assert len(rows) == 2 + 7 + 7
    for method in ("item_cosine", "ease"):
        tried = [row for row in rows if row["method"] == method and row["split"] == "validation"]
        (final,) = [row for row in rows if row["method"] == method and row["split"] == "holdout"]
        assert final["config"] == max(tried, key=lambda row: row["recall_50"])["config"]
        with np.load(tmp_path / f"small-{method}.npz") as file:
            assert abs(file["recall_20"].mean() - final["recall_20"]) < 1e-6
    assert {len(grid) for name, grid in yardsticks.GRIDS.items() if name not in ("popularity", "planted_taste")} == {6}


def test_clusters_are_kept_and_their_controls_keep_what_they_should(shop: QualityData, tmp_path, monkeypatch) -> None:
    sizes = {"num_primary": 6, "num_secondary": 3, "dim": 8, "folder": tmp_path}
    clusters = fit_clusters(shop, **sizes)
    monkeypatch.setattr("benchmarks.quality.clusters._fit", lambda *_: pytest.fail("the kept fit was not used"))
    again = fit_clusters(shop, **sizes)
    assert all(torch.equal(getattr(again, name), getattr(clusters, name)) for name in ("primary", "secondary", "centroids"))
    monkeypatch.undo()

    averaged = fit_clusters(shop, **sizes, mean_residual=True)
    assert torch.equal(averaged.primary, clusters.primary) and torch.equal(averaged.centroids, clusters.centroids)
    assert not torch.equal(averaged.secondary, clusters.secondary)
    warm = fit_clusters(shop, **sizes, warm_start=True)
    assert not torch.equal(warm.centroids, clusters.centroids)
    alone = fit_clusters(shop, **sizes, views=["text"])
    assert torch.equal(alone.primary < 0, shop.views["text"][:, 0].isnan())

    control = random_clusters(clusters)
    assert not torch.equal(control.primary, clusters.primary)
    pairs = [sorted(zip(one.primary.tolist(), one.secondary.tolist(), strict=True)) for one in (control, clusters)]
    assert pairs[0] == pairs[1] and torch.equal(control.primary < 0, clusters.primary < 0)
    facts, warm_facts, control_facts = (cluster_facts(shop, one) for one in (clusters, warm, control))
    assert min(facts["nmi_primary"], warm_facts["nmi_primary"]) > control_facts["nmi_primary"]


def test_chance_of_the_own_leaf_by_hand() -> None:
    data = data_of(split_by_share(*log_of(num_items=6)), 6)
    data = replace(data, leaf=torch.tensor([0, 0, 0, 1, 1, 2]), liked_leaves=torch.zeros(40, 1, dtype=torch.long))
    clusters = Clusters(torch.tensor([0, 0, 0, 0, 1, -1]), torch.tensor([0, 0, 1, 1, 0, -1]), torch.rand(2, 3))
    facts = cluster_facts(data, clusters)
    # Hard draws: 0 and 1 against 2 and 3; of these four pairs, (0, 2) and (1, 2) share a leaf. Same pair: (0, 1) and (2, 3).
    assert facts["same_leaf_hard"] == 0.5 and facts["same_leaf_pair"] == 0.5


def test_clusters_round_trip(tmp_path) -> None:
    clusters = Clusters(torch.tensor([0, 1, -1]), torch.tensor([1, 0, -1]), torch.rand(2, 3))
    clusters.save(tmp_path / "clusters.npz")
    back = Clusters.load(tmp_path / "clusters.npz")
    assert torch.equal(back.primary, clusters.primary) and back.primary.dtype == torch.long
    assert torch.equal(back.secondary, clusters.secondary) and torch.equal(back.centroids, clusters.centroids)


def test_shop_sequences_hold_no_pair_twice() -> None:
    sequences = shop_sequences(World(ShopSettings(generator="v1", num_items=60, num_users=40, num_days=10)))
    pairs = event_users(sequences) * 60 + sequences.items
    assert len(pairs.unique()) == len(pairs)
