"""The sampler against exhaustive enumeration of its proposal."""

import pytest
import torch
from torch import Tensor

from esans_core.cluster_index import ClusterIndex
from esans_core.interpolation import simple_weights
from esans_core.sampler import SemanticNegativeSampler

# 24 items: primary 0 has groups of 3, 2, 1; primary 1 one group of 6; primary 2 groups of 5 and 3; primary 3 is too small to
# be drawn as easy (2 items); primary 4 is empty; two items have no cluster.
PRIMARY = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 3, 3, -1, -1])
SECONDARY = torch.tensor([0, 0, 0, 1, 1, 2, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 3, 3, 3, 0, 1, -1, -1])
CENTROIDS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [9.0, 9.0]])
SHUFFLE = torch.randperm(24, generator=torch.Generator().manual_seed(3))


def make(**changes: int | float | None) -> tuple[SemanticNegativeSampler, Tensor, Tensor]:
    primary, secondary = PRIMARY[SHUFFLE], SECONDARY[SHUFFLE]
    options = {"num_easy_clusters": 2, "items_per_cluster": 4, "num_hard": 3} | changes
    index = ClusterIndex.from_labels(primary, secondary, num_primary=5)
    return SemanticNegativeSampler(index, CENTROIDS, **options), primary, secondary


def enumerate_expected_counts(sampler: SemanticNegativeSampler, primary: Tensor, secondary: Tensor) -> Tensor:
    """[N, N] by plain loops over the definition: row = positive, column = item."""
    n, m_c, m_o, m_h = len(primary), sampler.num_easy_clusters, sampler.items_per_cluster, sampler.num_hard
    expected = torch.zeros(n, n)
    for i in range(n):
        p, s = int(primary[i]), int(secondary[i])
        if p < 0:
            continue
        drawable = [q for q in range(5) if q != p and int((primary == q).sum()) >= m_o]
        drawable = sorted(drawable, key=lambda q: float((CENTROIDS[p] - CENTROIDS[q]).norm()))[: sampler.num_near_clusters]
        weights = {q: float(torch.exp(-(CENTROIDS[p] - CENTROIDS[q]).norm())) for q in drawable}
        hard = [j for j in range(n) if primary[j] == p and secondary[j] != s]
        for j in range(n):
            q = int(primary[j])
            if q in weights:
                expected[i, j] = m_c * m_o * weights[q] / sum(weights.values()) / int((primary == q).sum())
            if j in hard:
                expected[i, j] = m_h / len(hard)
    return expected


@pytest.mark.parametrize("max_near", [None, 1, 2, 3, 9])
def test_expected_counts_match_enumeration(max_near: int | None) -> None:
    sampler, primary, secondary = make(max_near_clusters=max_near)
    assert sampler.num_near_clusters == min(max_near or 5, 5)
    items = torch.arange(24)
    expected = enumerate_expected_counts(sampler, primary, secondary)
    torch.testing.assert_close(sampler.expected_counts(items, items), expected)
    per_row = items.roll(5).expand(24, -1)
    torch.testing.assert_close(sampler.expected_counts(items, per_row), expected[:, items.roll(5)])


@pytest.mark.parametrize("max_near", [None, 2])
def test_drawn_frequencies_match_enumeration(max_near: int | None) -> None:
    sampler, primary, secondary = make(max_near_clusters=max_near)
    expected = enumerate_expected_counts(sampler, primary, secondary)
    repeats = 8_000
    generator = torch.Generator().manual_seed(1)
    counts = torch.zeros(24, 24)
    for i in range(24):
        draws = sampler.sample(torch.full((repeats,), i), generator)
        drawn = [
            items[valid].flatten()
            for items, valid in ((draws.easy_BCM, draws.easy_valid_B), (draws.hard_BH, draws.hard_valid_B))
        ]
        counts[i] = torch.bincount(torch.cat(drawn), minlength=24) / repeats
    # each count is a mean of `repeats` sums of at most 8 indicators: 6 standard errors is a bound no correct sampler misses
    assert (counts - expected).abs().max() < 6 * (expected.clamp_min(1e-3) * 8 / repeats).sqrt().max()
    assert (counts[expected == 0] == 0).all()


def test_a_hard_negative_shares_the_primary_and_never_the_secondary_cluster() -> None:
    generator = torch.Generator().manual_seed(0)
    primary = torch.randint(0, 20, (5000,), generator=generator)
    secondary = torch.randint(0, 6, (5000,), generator=generator)
    sampler = SemanticNegativeSampler(
        ClusterIndex.from_labels(primary, secondary), torch.randn(20, 4, generator=generator), num_hard=8
    )
    positives = torch.arange(5000).repeat(4)
    draws = sampler.sample(positives, generator)
    assert draws.hard_valid_B.all() and draws.easy_valid_B.all()
    assert (primary[draws.hard_BH] == primary[positives][:, None]).all()
    assert (secondary[draws.hard_BH] != secondary[positives][:, None]).all()
    assert (primary[draws.easy_BCM] != primary[positives][:, None, None]).all()
    assert (primary[draws.easy_BCM] == primary[draws.easy_BCM[..., :1]]).all()


def test_easy_items_of_one_cluster_are_distinct_even_when_the_cluster_is_just_large_enough() -> None:
    sampler, _, _ = make(items_per_cluster=6)
    draws = sampler.sample(torch.arange(24).repeat(200), torch.Generator().manual_seed(0))
    valid = draws.easy_BCM[draws.easy_valid_B]
    assert len(valid)
    ordered = valid.sort(-1).values
    assert (ordered[..., 1:] != ordered[..., :-1]).all()


def test_failed_draws_are_marked_and_hold_the_positive() -> None:
    sampler, primary, _ = make()
    items = torch.arange(24)
    draws = sampler.sample(items, torch.Generator().manual_seed(0))
    assert torch.equal(draws.hard_valid_B, (primary >= 0) & (primary != 1))  # primary 1 has one group only
    assert torch.equal(draws.easy_valid_B, primary >= 0)
    lost = ~draws.hard_valid_B
    assert (draws.hard_BH[lost] == items[lost][:, None]).all()


def test_one_call_gives_items_validity_and_the_log_of_the_expected_counts() -> None:
    sampler, primary, _ = make()
    positives = torch.arange(24).repeat(20)
    draws = sampler.sample(positives, torch.Generator().manual_seed(0))
    assert draws.items.shape == draws.valid.shape == draws.log_expected_counts.shape == (480, sampler.num_draws)
    assert torch.equal(draws.items, torch.cat([draws.easy_BCM.flatten(1), draws.hard_BH], dim=1))
    assert torch.equal(draws.easy(draws.items), draws.easy_BCM) and torch.equal(draws.hard(draws.items), draws.hard_BH)
    assert torch.equal(draws.valid[:, 0], draws.easy_valid_B) and torch.equal(draws.valid[:, -1], draws.hard_valid_B)
    assert not draws.valid.all()
    counts = sampler.expected_counts(positives, draws.items)
    assert torch.equal(draws.log_expected_counts, torch.where(draws.valid, counts.log(), 0.0))
    assert torch.equal(draws.valid, draws.items != positives[:, None])
    some = draws.rows(slice(3, 9))
    assert torch.equal(some.log_expected_counts, draws.log_expected_counts[3:9]) and torch.equal(some.valid, draws.valid[3:9])


def test_virtual_negatives_are_valid_and_corrected_as_the_items_they_are_made_of() -> None:
    sampler, _, _ = make()
    positives, generator = torch.arange(24), torch.Generator().manual_seed(0)
    draws = sampler.sample(positives, generator)
    weights, lambdas = simple_weights((24, 2), 4, generator=generator), torch.rand(24, 3, generator=generator) - 0.5
    both, num_virtual = draws.with_virtual(weights, lambdas), weights.shape[2]
    assert both.valid.shape == both.log_expected_counts.shape == (24, 11 + 2 * num_virtual + 3)
    assert bool(both.log_expected_counts.isfinite().all())
    real = draws.log_expected_counts
    for i in range(24):
        column = 11
        for c in range(2):
            for v in range(num_virtual):
                wanted = sum(float(weights[i, c, v, m]) * float(real[i, c * 4 + m]) for m in range(4))
                assert float(both.log_expected_counts[i, column]) == pytest.approx(wanted, abs=1e-5)
                assert both.valid[i, column] == draws.easy_valid_B[i]
                column += 1
        for h in range(3):
            assert float(both.log_expected_counts[i, column + h]) == pytest.approx(
                float((1 - lambdas[i, h]) * real[i, 8 + h]), abs=1e-5
            )
            assert both.valid[i, column + h] == draws.hard_valid_B[i]
    assert torch.equal(draws.with_virtual().valid, draws.valid)


@pytest.mark.parametrize("primary", [torch.zeros(6, dtype=torch.long), torch.full((6,), -1)])
def test_one_cluster_or_none_gives_no_easy_negatives(primary: Tensor) -> None:
    secondary = torch.where(primary < 0, -1, torch.arange(6) % 2)
    sampler = SemanticNegativeSampler(ClusterIndex.from_labels(primary, secondary, 1), torch.zeros(1, 2), items_per_cluster=2)
    draws = sampler.sample(torch.arange(6))
    assert not draws.easy_valid_B.any()
    assert torch.equal(draws.hard_valid_B, primary >= 0)
    assert draws.easy_BCM.shape == (6, 2, 2) and draws.hard_BH.shape == (6, 5)
    assert draws.items.shape == draws.valid.shape == (6, 9) and bool(draws.log_expected_counts.isfinite().all())
    counts = sampler.expected_counts(torch.arange(6), torch.arange(6))
    assert counts.sum() == (30 if primary[0] == 0 else 0)


def test_a_single_item_catalogue() -> None:
    sampler = SemanticNegativeSampler(ClusterIndex.from_labels(torch.tensor([0]), torch.tensor([0])), torch.zeros(1, 3))
    draws = sampler.sample(torch.tensor([0, 0]))
    assert not draws.easy_valid_B.any() and not draws.hard_valid_B.any()
    assert not draws.valid.any() and (draws.items == 0).all() and (draws.log_expected_counts == 0).all()


def test_same_seed_same_draws_and_other_seed_other_draws() -> None:
    sampler, _, _ = make()
    positives = torch.arange(22).repeat(10)
    first, second, other = (sampler.sample(positives, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first.easy_BCM, second.easy_BCM) and torch.equal(first.hard_BH, second.hard_BH)
    assert not torch.equal(first.easy_BCM, other.easy_BCM)


def test_nearer_clusters_are_drawn_more_often_and_temperature_sharpens_it() -> None:
    warm, _, _ = make(easy_temperature=1.0)
    cold, _, _ = make(easy_temperature=0.1)
    items = torch.arange(24)
    near, far = PRIMARY[SHUFFLE] == 1, PRIMARY[SHUFFLE] == 2
    mine = items[PRIMARY[SHUFFLE] == 0][:1]
    share = []
    for sampler in (warm, cold):
        counts = sampler.expected_counts(mine, items)[0]
        assert counts[near].sum() > counts[far].sum() > 0
        share.append(float(counts[near].sum()))
        assert (counts[PRIMARY[SHUFFLE] == 3] == 0).all()
    assert share[1] > share[0]


def test_refuses_what_does_not_fit() -> None:
    index = ClusterIndex.from_labels(torch.tensor([0, 1]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match=r"centroids must be \[2, d\]"):
        SemanticNegativeSampler(index, torch.zeros(3, 2))
    with pytest.raises(ValueError, match="easy_temperature must be positive"):
        SemanticNegativeSampler(index, torch.zeros(2, 2), easy_temperature=0.0)
    with pytest.raises(ValueError, match="at least"):
        SemanticNegativeSampler(index, torch.zeros(2, 2), num_hard=-1)
    with pytest.raises(ValueError, match="max_near_clusters must be at least 1"):
        SemanticNegativeSampler(index, torch.zeros(2, 2), max_near_clusters=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_draws_on_a_gpu_follow_the_same_proposal() -> None:
    cpu, primary, secondary = make()
    sampler = SemanticNegativeSampler(cpu.index.to("cuda"), CENTROIDS, num_easy_clusters=2, items_per_cluster=4, num_hard=3)
    positives = torch.arange(22, device="cuda").repeat(1000)
    draws = sampler.sample(positives, torch.Generator(device="cuda").manual_seed(0))
    assert draws.hard_BH.is_cuda
    hard = draws.hard_BH[draws.hard_valid_B].cpu()
    assert (secondary[hard] != secondary[positives[draws.hard_valid_B].cpu()][:, None]).all()
    torch.testing.assert_close(
        sampler.expected_counts(positives[:22], positives[:22]).cpu(), cpu.expected_counts(torch.arange(22), torch.arange(22))
    )


@pytest.mark.parametrize("max_near", [None, 1, 2])
def test_counts_of_a_batch_are_the_sum_of_its_rows(max_near: int | None) -> None:
    sampler, _, _ = make(max_near_clusters=max_near)
    positives = torch.randint(24, (50,), generator=torch.Generator().manual_seed(1))
    items = torch.randint(24, (7, 5), generator=torch.Generator().manual_seed(2))
    total = sampler.expected_counts(positives, items.flatten()).sum(0).view(7, 5)
    assert torch.allclose(sampler.batch_expected_counts(positives, items), total, rtol=1e-5)
