"""The step's loss against one that draws the same negatives and makes every vector."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from esans_core.cluster_index import ClusterIndex
from esans_core.objective import NegativeConfig, RetrievalObjective
from esans_core.sampler import SemanticNegativeSampler

N, D, B, TAU = 60, 8, 12, 0.1
ITEMS = normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=-1)
USERS = normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)), dim=-1)
POSITIVES = torch.arange(B) * 4
FREQUENCY = torch.softmax(torch.randn(N, generator=torch.Generator().manual_seed(2)), 0)


def sampler() -> SemanticNegativeSampler:
    index = ClusterIndex.from_labels(torch.arange(N) % 4, torch.arange(N) // 4 % 3)
    return SemanticNegativeSampler(index, torch.randn(4, 5, generator=torch.Generator().manual_seed(3)), num_hard=3)


def loss_of(config: NegativeConfig, seed: int = 0, items: torch.Tensor = ITEMS) -> torch.Tensor:
    objective = RetrievalObjective(config, FREQUENCY, temperature=TAU, sampler=sampler())
    return objective(USERS, POSITIVES, lambda rows: items[rows], torch.Generator().manual_seed(seed))


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


@pytest.mark.parametrize("normalise", [True, False])
def test_semantic_loss_matches_materialised_vectors(normalise: bool) -> None:
    config = NegativeConfig(
        in_batch=False, num_pool=0, lambda_low=0.2, lambda_high=0.2, virtual_weight=0.5, normalise_virtual=normalise
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
    full = torch.nn.functional.cross_entropy(USERS @ ITEMS.T / TAU, POSITIVES)
    for config in (
        NegativeConfig.for_method("esans", simple_interpolation=False, hard_interpolation=False, num_pool=256, in_batch=False),
        NegativeConfig.for_method("debiased_mns", num_pool=512, in_batch=False),
        NegativeConfig.for_method("uniform", num_uniform=256),
    ):
        mean = torch.stack([loss_of(config, seed) for seed in range(40)]).mean()
        assert abs(float(mean - full)) < 0.03, config


def test_methods_fix_what_makes_them_what_they_are() -> None:
    assert not NegativeConfig.for_method("esans_paper").log_q
    assert NegativeConfig.for_method("esans_paper").virtual_weight == 1.0
    assert not NegativeConfig.for_method("debiased_mns").semantic
    assert not NegativeConfig.for_method("uniform", num_uniform=20).in_batch
    with pytest.raises(ValueError, match="unknown method"):
        NegativeConfig.for_method("other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no negatives"):
        RetrievalObjective(NegativeConfig(in_batch=False, num_pool=0, semantic=False), FREQUENCY, temperature=TAU)
    with pytest.raises(ValueError, match="needs a SemanticNegativeSampler"):
        RetrievalObjective(NegativeConfig(), FREQUENCY, temperature=TAU)


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
