"""The step's loss against one that draws the same negatives and makes every vector."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from esans_core.cluster_index import ClusterIndex
from esans_core.mixgcf import PositiveMixing
from esans_core.negatives import METHODS, NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.sampler import SemanticNegativeSampler
from esans_core.shared_softmax import matches
from esans_core.towers import TwoTower
from esans_core.training import build_optimizers
from tests.core.toy_loss import FREQUENCY, ITEMS, POSITIVES, TAU, USERS, B, N, loss_of, objective_of, sampler


def full_softmax() -> torch.Tensor:
    return torch.nn.functional.cross_entropy(USERS @ ITEMS.T / TAU, POSITIVES)


def test_in_batch_loss_matches_a_loop() -> None:
    config = NegativeConfig(in_batch=True, num_pool=0, semantic=False)
    total = 0.0
    for i in range(B):
        logits = [float(USERS[i] @ ITEMS[j]) / TAU for j in POSITIVES]
        corrected = [
            value - math.log((B - 1) * float(FREQUENCY[j])) if k != i else value
            for k, (value, j) in enumerate(zip(logits, POSITIVES, strict=True))
        ]
        total += math.log(sum(map(math.exp, corrected))) - logits[i]
    assert float(loss_of(config)) == pytest.approx(total / B, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_correction_takes_off_that_share_of_the_log_count(share: float) -> None:
    config = NegativeConfig(in_batch=True, num_pool=0, semantic=False, log_q=share)
    logits = USERS @ ITEMS[POSITIVES].T / TAU
    corrected = logits - share * ((B - 1) * FREQUENCY[POSITIVES]).log()
    corrected.diagonal().copy_(logits.diagonal())
    expected = torch.nn.functional.cross_entropy(corrected, torch.arange(B))
    assert float(loss_of(config)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_under_bfloat16_autocast_only_the_products_are_rounded(method: Any) -> None:
    config = NegativeConfig.for_method(method, num_pool=32, num_per_positive=8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_of(config)
    assert mixed.dtype == torch.float32
    # cosines over the temperature reach 10, where a step of bfloat16 is 1/16; the mean of a batch is closer
    assert float(mixed) == pytest.approx(float(loss_of(config)), abs=0.02)


@pytest.mark.parametrize("normalise", [True, False])
def test_semantic_loss_matches_materialised_vectors(normalise: bool) -> None:
    config = NegativeConfig(
        in_batch=False,
        num_pool=0,
        share_draws=False,
        lambda_low=0.2,
        lambda_high=0.2,
        virtual_weight=0.5,
        normalise_virtual=normalise,
    )
    from esans_core.interpolation import simple_weights

    draw, generator = sampler(), torch.Generator().manual_seed(0)
    draws = draw.sample(POSITIVES, generator)
    weights = simple_weights(draws.easy_BCM.shape[:2], 5, generator=generator)
    total = 0.0
    for i in range(B):
        rows = torch.cat([draws.easy_BCM[i].flatten(), draws.hard_BH[i]])
        count = draw.expected_counts(POSITIVES[i : i + 1], rows[None])[0]
        vectors, log_count = [ITEMS[rows]], [count.log()]
        for c in range(2):
            made = weights[i, c] @ ITEMS[draws.easy_BCM[i, c]]
            vectors.append(normalize(made, dim=-1) if normalise else made)
            log_count.append(weights[i, c] @ count[c * 5 : c * 5 + 5].log() - math.log(0.5))
        made = 0.2 * ITEMS[POSITIVES[i]] + 0.8 * ITEMS[draws.hard_BH[i]]
        vectors.append(normalize(made, dim=-1) if normalise else made)
        log_count.append(0.8 * count[10:].log() - math.log(0.5))
        negative = torch.cat(vectors) @ USERS[i] / TAU - torch.cat(log_count)
        positive = USERS[i] @ ITEMS[POSITIVES[i]] / TAU
        total += float(torch.logsumexp(torch.cat([positive[None], negative]), 0) - positive)
    assert float(loss_of(config)) == pytest.approx(total / B, rel=1e-4)


def test_corrected_losses_agree_with_the_full_softmax_on_average() -> None:
    real_only = {"simple_interpolation": False, "hard_interpolation": False, "in_batch": False}
    for config in (
        NegativeConfig.for_method("esans", num_pool=256, **real_only),
        NegativeConfig.for_method("esans", num_pool=256, share_draws=True, **real_only),
        NegativeConfig(num_pool=512, semantic=False, in_batch=False),
        NegativeConfig.for_method("uniform", num_per_positive=256),
        NegativeConfig.for_method("popularity", num_per_positive=512),
        NegativeConfig(num_per_positive=256, proposal="fair", semantic=False, in_batch=False, num_pool=0),
    ):
        mean = torch.stack([loss_of(config, seed) for seed in range(40)]).mean()
        assert abs(float(mean - full_softmax())) < 0.03, config


@pytest.mark.parametrize("shared", [False, True])
def test_half_the_correction_leaves_popularity_in_and_nothing_of_the_sampler(shared: bool) -> None:
    config = NegativeConfig(
        in_batch=False,
        num_pool=0,
        num_per_positive=256,
        proposal="popularity",
        share_draws=shared,
        simple_interpolation=False,
        hard_interpolation=False,
        log_q=0.5,
    )
    share_N = FREQUENCY**config.popularity_exponent
    counts_N = 256 * share_N / share_N.sum() + sampler().num_draws * (B if shared else 1) / len(FREQUENCY)
    logits = USERS @ ITEMS.T / TAU
    weighted = logits + 0.5 * counts_N.log()
    weighted[torch.arange(B), POSITIVES] = logits[torch.arange(B), POSITIVES]
    expected = torch.nn.functional.cross_entropy(weighted, POSITIVES)
    mean = torch.stack([loss_of(config, seed) for seed in range(40)]).mean()
    assert float(mean) == pytest.approx(float(expected), abs=0.03)


def test_the_whole_catalogue_is_the_full_softmax() -> None:
    assert float(loss_of(NegativeConfig.for_method("full_softmax"))) == pytest.approx(float(full_softmax()), rel=1e-6)


def test_methods_fix_what_makes_them_what_they_are() -> None:
    for method in METHODS:
        config = NegativeConfig.for_method(method, num_per_positive=6, num_hardest=2, num_pool=16, num_cached=32)
        assert config.semantic == method.startswith("esans")
        assert loss_of(config).isfinite()
    assert not NegativeConfig.for_method("esans_paper").log_q
    assert NegativeConfig.for_method("esans_paper").virtual_weight == 1.0
    assert NegativeConfig.for_method("debiased_mns", num_pool=7).num_pool == 7
    uniform = NegativeConfig.for_method("uniform", num_pool=7, num_hardest=3)
    assert (uniform.in_batch, uniform.num_pool, uniform.num_per_positive, uniform.num_hardest) == (False, 0, 16, 0)
    assert NegativeConfig.for_method("dns").num_hardest == 4
    assert NegativeConfig.for_method("mixgcf").mixing == PositiveMixing()


def test_what_is_missing_or_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown method"):
        NegativeConfig.for_method("other")
    with pytest.raises(ValueError, match="no such field: num_pools"):
        NegativeConfig.for_method("mns", num_pools=3)
    with pytest.raises(ValueError, match="no negatives"):
        NegativeConfig(in_batch=False, num_pool=0, semantic=False)
    with pytest.raises(ValueError, match="share of the correction"):
        NegativeConfig(log_q=1.5)
    with pytest.raises(ValueError, match="cached negatives take no gradient"):
        NegativeConfig(num_cached=8, in_batch=False, num_pool=0, semantic=False)
    with pytest.raises(ValueError, match="takes the place"):
        NegativeConfig(all_items=True)
    with pytest.raises(ValueError, match="needs a SemanticNegativeSampler"):
        RetrievalObjective(NegativeConfig(), FREQUENCY, temperature=TAU)
    with pytest.raises(ValueError, match="item_groups"):
        RetrievalObjective(NegativeConfig.for_method("fairneg"), FREQUENCY, temperature=TAU)
    with pytest.raises(ValueError, match="num_users"):
        RetrievalObjective(NegativeConfig.for_method("adap_tau"), FREQUENCY, temperature=TAU)
    with pytest.raises(ValueError, match="user_rows"):
        objective_of(NegativeConfig.for_method("adap_tau"))(USERS, POSITIVES, lambda rows: ITEMS[rows])


def test_only_the_hardest_count() -> None:
    config = NegativeConfig.for_method("dns", num_per_positive=9, num_hardest=2)
    drawn = torch.randint(N, (B, 9), generator=torch.Generator().manual_seed(0))
    logits = torch.einsum("bd,brd->br", USERS, ITEMS[drawn]) / TAU
    logits[drawn == POSITIVES[:, None]] = -torch.inf
    hardest = logits.sort(dim=1, descending=True).values[:, :2]
    positive = (USERS * ITEMS[POSITIVES]).sum(1, keepdim=True) / TAU
    expected = (torch.logsumexp(torch.cat([positive, hardest], dim=1), 1) - positive[:, 0]).mean()
    assert float(loss_of(config)) == pytest.approx(float(expected), rel=1e-5)


def test_items_of_the_positives_own_group_can_weigh_less_in_the_pool() -> None:
    index = sampler().index
    same = (index.group(POSITIVES)[:, None] == index.group(torch.arange(N))[None]) & (torch.arange(N) != POSITIVES[:, None])
    logits = USERS @ ITEMS.T / TAU
    for weight in (0.0, 0.3, 1.0):
        config = NegativeConfig(all_items=True, in_batch=False, num_pool=0, semantic=False, log_q=0.0, same_group_weight=weight)
        weighted = logits + torch.where(same, math.log(weight) if weight else -torch.inf, 0.0)
        expected = torch.nn.functional.cross_entropy(weighted, POSITIVES)
        assert float(loss_of(config)) == pytest.approx(float(expected), rel=1e-5)


def test_a_learnt_temperature_moves_down_its_gradient_and_stops_at_the_least() -> None:
    config = NegativeConfig.for_method("debiased_mns", num_pool=40)
    objective = objective_of(config)

    def at(log_temperature: float) -> float:
        objective.log_temperature.data.fill_(log_temperature)
        return float(objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0)).detach())

    start = math.log(TAU)
    slope = (at(start + 1e-2) - at(start - 1e-2)) / 2e-2
    at(start)
    objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0)).backward()
    assert float(objective.log_temperature.grad) == pytest.approx(slope, rel=1e-2)  # type: ignore[arg-type]
    assert float(objective.temperature) == pytest.approx(TAU)
    objective.log_temperature.data.fill_(-50.0)
    assert float(objective.temperature) == pytest.approx(0.01)


def test_a_temperature_is_learnt_unless_it_is_fixed_or_adapts_to_each_user() -> None:
    def learns(method: str, **values: Any) -> bool:
        config = NegativeConfig.for_method(method)
        objective = RetrievalObjective(config, FREQUENCY, temperature=TAU, num_users=B, sampler=sampler(), **values)
        model = TwoTower(torch.zeros(N, 2), torch.ones(N, dtype=torch.bool), dim=4, max_history=3)
        (optimizer,) = build_optimizers(model, objective, learning_rate=1e-3, weight_decay=0.1)
        last = optimizer.param_groups[-1]
        assert last["params"] == [objective.log_temperature] and last["weight_decay"] == 0
        return objective.log_temperature.requires_grad

    assert learns("in_batch") and not learns("in_batch", learn_temperature=False) and not learns("adap_tau")


def test_gradients_reach_every_drawn_item_and_only_those() -> None:
    items = ITEMS.clone().requires_grad_()
    loss_of(NegativeConfig(in_batch=False, num_pool=0), items=items).backward()
    touched = set(torch.nonzero(items.grad.abs().sum(1)).flatten().tolist())
    draws = sampler().sample(POSITIVES, torch.Generator().manual_seed(0))
    assert touched == set(torch.cat([POSITIVES, draws.easy_BCM.flatten(), draws.hard_BH.flatten()]).tolist())


def test_items_without_a_cluster_still_train() -> None:
    index = ClusterIndex.from_labels(torch.full((N,), -1), torch.full((N,), -1), 4)
    objective = RetrievalObjective(
        NegativeConfig(num_pool=8), FREQUENCY, temperature=TAU, sampler=SemanticNegativeSampler(index, torch.zeros(4, 2))
    )
    assert objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0)).isfinite()


def test_every_method_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    assert all(f"| `{method}`" in page for method in METHODS)


def test_matches_are_all_equal_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted, items = torch.randint(9, (20,), generator=generator), torch.randint(12, (31,), generator=generator)
    found = set(zip(*(part.tolist() for part in matches(wanted, items)), strict=True))
    assert found == set(map(tuple, (wanted[:, None] == items).nonzero().tolist()))
    assert matches(wanted + 50, items)[0].numel() == 0
