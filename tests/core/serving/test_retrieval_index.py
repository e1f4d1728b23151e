"""The index against a loop over users: right items, nothing seen, never too few, the same from disk."""

from pathlib import Path

import numpy as np
import pytest

from esans_core.serving.retrieval_index import RetrievalIndex

pytest.importorskip("faiss")

N, D, B, K = 300, 8, 40, 10


def unit(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, D)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def flat(runs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([[0], np.cumsum([len(run) for run in runs])]), np.concatenate(runs).astype(np.int64)


@pytest.fixture(scope="module")
def case() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Users who have seen nothing, a little, nearly all and all of the catalogue, some items twice."""
    rng = np.random.default_rng(2)
    runs = [rng.integers(0, N, rng.integers(0, 60)) for _ in range(B - 3)]
    runs += [np.arange(0), np.arange(N - 4), np.arange(N)]
    return unit(N, 0), unit(B, 1), runs


def brute_force(items: np.ndarray, users: np.ndarray, runs: list[np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    best, scores = np.full((len(users), k), -1), np.full((len(users), k), -np.inf)
    for row, (user, seen) in enumerate(zip(users, runs, strict=True)):
        left = np.setdiff1d(np.arange(len(items)), seen)
        score = items[left] @ user
        order = np.argsort(-score)[:k]
        best[row, : len(order)], scores[row, : len(order)] = left[order], score[order]
    return best, scores


def test_exact_search_is_the_loop(case: tuple[np.ndarray, np.ndarray, list[np.ndarray]]) -> None:
    items, users, runs = case
    found, scores = RetrievalIndex.build(items).search(users, K, flat(runs))
    best, expected = brute_force(items, users, runs, K)
    assert np.array_equal(found, best)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert (found[-1] == -1).all() and (found[-2] >= 0).sum() == 4 and (found[:-2] >= 0).all()


def test_lists_give_nearly_the_loop_leave_out_the_seen_and_fill_every_row(
    case: tuple[np.ndarray, np.ndarray, list[np.ndarray]],
) -> None:
    items, users, runs = case
    index = RetrievalIndex.build(items, "ivf")
    index.probes = index.num_lists // 7
    found, scores = index.search(users, K, flat(runs))
    best, _ = brute_force(items, users, runs, K)
    hits = [np.isin(best[row][best[row] >= 0], found[row]).mean() for row in range(B - 1)]
    assert 0.8 < np.mean(hits) < 1, np.mean(hits)
    for row, seen in enumerate(runs):
        real = found[row][found[row] >= 0]
        assert not np.isin(real, seen).any() and len(np.unique(real)) == len(real)
    assert np.array_equal((found >= 0).sum(1), (best >= 0).sum(1))
    assert (np.diff(np.where(np.isfinite(scores), scores, -9)) <= 0).all()


def test_more_lists_find_more_and_all_of_them_everything(
    case: tuple[np.ndarray, np.ndarray, list[np.ndarray]],
) -> None:
    items, users, runs = case
    index, found = RetrievalIndex.build(items, "ivf"), []
    best, _ = brute_force(items, users, runs, K)
    for probes in (4, 16, index.num_lists):
        index.probes = probes
        rows, _ = index.search(users, K, flat(runs))
        found.append(np.mean([np.isin(best[user], rows[user]).mean() for user in range(B)]))
    assert found[0] < found[1] < found[2] == 1


def without(items: np.ndarray, runs: list[np.ndarray], allowed: np.ndarray) -> list[np.ndarray]:
    """What each user has seen, and what nobody may get."""
    return [np.concatenate([run, np.flatnonzero(~allowed)]) for run in runs]


@pytest.mark.parametrize("share", [0.9, 0.3, 0.03, 0])
def test_exact_search_among_some_items_is_the_loop(
    case: tuple[np.ndarray, np.ndarray, list[np.ndarray]], monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    items, users, runs = case
    allowed = np.random.default_rng(5).random(N) < share
    for block in (65_536, 7):
        monkeypatch.setattr("esans_core.serving.retrieval_index._ITEMS_PER_BLOCK", block)
        found, scores = RetrievalIndex.build(items).search(users, K, flat(runs), allowed)
        best, expected = brute_force(items, users, without(items, runs, allowed), K)
        assert np.array_equal(found, best)
        np.testing.assert_allclose(scores, expected, atol=1e-6)


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0.01, 0])
def test_lists_searched_among_some_items_fill_every_row_and_miss_little(
    case: tuple[np.ndarray, np.ndarray, list[np.ndarray]], share: float
) -> None:
    items, users, runs = case
    allowed = np.random.default_rng(5).random(N) < share
    index = RetrievalIndex.build(items, "ivf")
    index.probes = index.num_lists // 7
    found, _ = index.search(users, K, flat(runs), allowed)
    best, _ = brute_force(items, users, without(items, runs, allowed), K)
    assert np.array_equal((found >= 0).sum(1), (best >= 0).sum(1))
    assert allowed[found[found >= 0]].all()
    hits = [np.isin(best[row][best[row] >= 0], found[row]).mean() for row in range(B) if best[row, 0] >= 0]
    assert not hits or np.mean(hits) > 0.8
    if share <= 0.1:  # fewer items pass than the lists looked into hold: all of them are compared
        assert np.array_equal(found, best)
    index.probes = index.num_lists
    assert np.array_equal(index.search(users, K, flat(runs), allowed)[0], best)


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_an_index_of_some_rows_finds_these_alone_though_others_were_seen(
    case: tuple[np.ndarray, np.ndarray, list[np.ndarray]], tmp_path: Path, kind: str
) -> None:
    items, users, runs = case
    held = np.random.default_rng(6).random(N) < 0.5
    held[-9:] = False  # the seen rows go beyond those of the index
    index = RetrievalIndex.build(items[held], kind, np.flatnonzero(held))
    index.probes = index.num_lists
    index.save(tmp_path)
    for ours in (index, RetrievalIndex.load(tmp_path), index.exact()):
        found, _ = ours.search(users, K, flat(runs))
        assert np.array_equal(found, brute_force(items, users, without(items, runs, held), K)[0])
        allowed = np.random.default_rng(7).random(N) < 0.5
        both = without(items, runs, held & allowed)
        assert np.array_equal(ours.search(users, K, flat(runs), allowed)[0], brute_force(items, users, both, K)[0])
        assert (ours.search(users, K, flat(runs), ~held)[0] == -1).all()


def test_a_list_too_short_is_helped_out() -> None:
    items, users = unit(N, 0), unit(3, 1)
    index = RetrievalIndex.build(items, "ivf")
    index.probes = 1  # about four items
    runs = [np.arange(5)] * 3
    assert np.array_equal(index.search(users, K, flat(runs))[0], brute_force(items, users, runs, K)[0])


def test_more_asked_for_than_there_is_and_a_single_item() -> None:
    items, users = unit(3, 0), unit(2, 1)
    found, _ = RetrievalIndex.build(items).search(users, 5, flat([np.array([1, 1]), np.arange(0)]))
    assert (found[0] >= 0).sum() == 2 and 1 not in found[0] and sorted(found[1].tolist()) == [-1, -1, 0, 1, 2]
    assert RetrievalIndex.build(items[:1]).search(users, 1, flat([np.arange(0)] * 2))[0].tolist() == [[0], [0]]


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_from_disk_it_answers_the_same_and_a_second_build_too(
    case: tuple[np.ndarray, np.ndarray, list[np.ndarray]], tmp_path: Path, kind: str
) -> None:
    items, users, runs = case
    index = RetrievalIndex.build(items, kind)
    index.probes = 5
    index.save(tmp_path)
    assert RetrievalIndex.load(tmp_path).probes == 5
    for other in (RetrievalIndex.load(tmp_path), RetrievalIndex.build(items, kind)):
        assert other.kind == kind
        other.probes = 5
        for ours, theirs in zip(index.search(users, K, flat(runs)), other.search(users, K, flat(runs)), strict=True):
            assert np.array_equal(ours, theirs)
    assert isinstance(RetrievalIndex.load(tmp_path).items_AD, np.memmap)


@pytest.mark.parametrize("items", [np.zeros((0, 4)), np.zeros(4), np.full((3, 2), np.nan)])
def test_what_is_no_catalogue_is_refused(items: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite item embeddings"):
        RetrievalIndex.build(items)
