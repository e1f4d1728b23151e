"""The table of near clusters against one over all pairs."""

import pytest
import torch

from esans_core import near_clusters
from esans_core.near_clusters import TABLE_BYTES, NearClusters

K, D = 60, 8


def made(max_near: int | None = None, num_drawable: int = K) -> tuple[NearClusters, torch.Tensor, torch.Tensor]:
    """The table; P(q | p) by plain loops, float64 [K, K]; and the items' counts, float64 [K]."""
    generator = torch.Generator().manual_seed(0)
    centroids, counts = torch.randn(K, D, generator=generator) + 5, torch.rand(K, generator=generator) + 0.1
    drawable = torch.zeros(K, dtype=torch.bool)
    drawable[torch.randperm(K, generator=generator)[:num_drawable]] = True
    probability = torch.zeros(K, K, dtype=torch.float64)
    for p in range(K):
        distance = (centroids[p].double() - centroids.double()).norm(dim=1)
        allowed = [q for q in range(K) if q != p and drawable[q]]
        allowed = sorted(allowed, key=lambda q, d=distance: float(d[q]))[: K if max_near is None else max_near]
        if allowed:
            probability[p, allowed] = torch.softmax(-distance[allowed] / 0.7, 0)
    return NearClusters(centroids, drawable, counts, 0.7, max_near), probability, counts


@pytest.mark.parametrize(("max_near", "num_drawable"), [(None, K), (K, 40), (7, K), (1, 40), (7, 3), (7, 1), (5, 0)])
def test_draws_and_counts_follow_the_softmax_over_what_is_kept(max_near: int | None, num_drawable: int) -> None:
    near, probability, counts = made(max_near, num_drawable)
    expected = (probability * counts).float()
    everyone, nothing, counted = torch.arange(K), torch.zeros(K), torch.ones(K, dtype=torch.bool)
    columns = torch.arange(K + 1)  # the last stands for no cluster
    found = near.expected_counts(everyone, nothing, counted, columns)
    torch.testing.assert_close(found[:, :K], expected)
    assert (found[:, K] == 0).all()
    torch.testing.assert_close(near.expected_counts(everyone, nothing, counted, columns.expand(K, -1)), found)
    torch.testing.assert_close(near.batch_expected_counts(everyone, counted.float(), torch.ones(K)), expected.sum(0))
    # No cluster loses its draws by what is left out.
    assert torch.equal(near.has_any_K, probability.sum(1) > 0)
    assert torch.equal(near.has_any_K, made(None, num_drawable)[0].has_any_K)
    if not bool(near.has_any_K.all()):
        return
    draws = 4000
    drawn, drawn_counts = near.draw(
        everyone, torch.rand(K, draws, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    )
    assert torch.equal(drawn_counts, found.gather(1, drawn))
    observed = torch.zeros(K, K, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(K, draws, dtype=torch.float64))
    wanted = draws * probability
    chi_square = float(((observed - wanted).square() / wanted.clamp_min(1e-300))[wanted > 0].sum())
    freedom = int((wanted > 0).sum()) - K
    assert (observed[wanted == 0] == 0).all()
    assert chi_square < freedom + 5 * (2 * freedom) ** 0.5 + 1e-6


def test_nothing_is_left_out_of_a_small_table_and_draws_stay_what_they_were() -> None:
    near, probability, _ = made()
    assert near.num_kept == K
    cumulative = probability.cumsum(1)
    uniform = torch.rand(K, 500, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.searchsorted(cumulative, uniform, right=True).clamp_max(K - 1)
    assert torch.equal(near.draw(torch.arange(K), uniform.clone())[0], expected)


def test_memory_is_bounded_and_grows_with_the_number_of_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    def table(num_clusters: int, max_near: int | None = None) -> NearClusters:
        ones = torch.ones(num_clusters)
        return NearClusters(torch.randn(num_clusters, 4), ones.bool(), ones, 1.0, max_near)

    monkeypatch.setattr(near_clusters, "TABLE_BYTES", 1_000_000)
    sizes = {num_clusters: table(num_clusters) for num_clusters in (200, 400, 800, 1600)}
    assert sizes[200].num_kept == 200
    assert [sizes[count].num_kept for count in (400, 800, 1600)] == [1_000_000 // (16 * count) for count in (400, 800, 1600)]
    assert all(made.nbytes <= 1_000_000 + count for count, made in sizes.items())
    assert table(1600, max_near=10).nbytes == 2 * table(800, max_near=10).nbytes
    monkeypatch.undo()
    assert near_clusters._num_kept(2309, None) == 2309 and near_clusters._num_kept(2310, None) < 2310
    assert 16 * 65_536 * near_clusters._num_kept(65_536, None) <= TABLE_BYTES


def test_the_table_is_made_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for max_near in (None, 7):
        whole = made(max_near)[0]
        monkeypatch.setattr(near_clusters, "_BLOCK_VALUES", 7 * K)
        blocks = made(max_near)[0]
        monkeypatch.undo()
        everyone, uniform = torch.arange(K), torch.rand(K, 50, dtype=torch.float64)
        assert torch.equal(whole.draw(everyone, uniform.clone())[0], blocks.draw(everyone, uniform.clone())[0])
