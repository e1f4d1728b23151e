"""The baselines of docs/methods.md, each computed again from its paper's formula, in another way than the library does it.

Where the library departs from a paper, the test is of what docs/methods.md says the library does instead.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, softplus

from esans_core.negatives import NegativeConfig
from esans_core.objective import BatchPart, RetrievalObjective
from esans_core.proposals import FairProposal, PopularityProposal
from esans_core.temperature import AdaptiveTemperature

N, D, B, R, TAU = 60, 8, 12, 9, 0.1
ITEMS = normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=-1)
USERS = normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)), dim=-1)
POSITIVES = torch.arange(B) * 4
FREQUENCY = torch.softmax(torch.randn(N, generator=torch.Generator().manual_seed(2)), 0)


def objective_of(method: str, num_users: int = B, **values: object) -> RetrievalObjective:
    config = NegativeConfig.for_method(method, num_per_positive=R, **values)
    return RetrievalObjective(config, FREQUENCY, temperature=TAU, item_groups=torch.arange(N) % 4, num_users=num_users)


def drawn(seed: int = 0) -> tuple[Tensor, torch.Generator]:
    """The uniform draws of a step, and the generator in the state they leave it in."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(N, (B, R), generator=generator), generator


def row_losses(positive_B: Tensor, logits_BR: Tensor, items_BR: Tensor) -> Tensor:
    """Softmax loss of each row; a negative that is the row's positive does not count."""
    logits_BR = logits_BR.masked_fill(items_BR == POSITIVES[:, None], -math.inf)
    return torch.logsumexp(torch.cat([positive_B[:, None], logits_BR], 1), 1) - positive_B


# Adap-tau: Chen et al., WWW 2023.


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_adap_tau_is_the_minimum_of_the_superloss_objective(spread: float) -> None:
    losses = torch.tensor([0.9, 1.0, 1.1, 1.2, 1.3], dtype=torch.float64)
    adaptive = AdaptiveTemperature(TAU, len(losses), spread=spread)
    adaptive.observe(torch.arange(len(losses)), losses)
    adaptive.end_epoch()
    # The weight sigma of a user minimises (L_u - m) sigma + beta / 2 (log sigma)^2, and scores are multiplied by sigma / tau_0.
    sigma = np.linspace(0.05, math.e, 400_001)
    for loss, found in zip(losses.tolist(), adaptive.per_user.tolist(), strict=True):
        values = (loss - float(losses.mean())) * sigma + spread / 2 * np.log(sigma) ** 2
        assert found == pytest.approx(TAU / sigma[values.argmin()], rel=1e-4)
    assert bool((adaptive.per_user.diff() > 0).all()), "the worse a user is fitted, the softer the softmax"


def test_adap_tau_stops_at_tau_0_over_e_where_the_objective_has_no_minimum() -> None:
    adaptive = AdaptiveTemperature(TAU, 2)
    adaptive.observe(torch.tensor([0, 1]), torch.tensor([1.0, 3.0]))
    adaptive.end_epoch()
    sigma = np.linspace(0.05, 50, 100_001)
    assert (np.diff(-1.0 * sigma + 0.5 * np.log(sigma) ** 2) < 0).all()  # the excess of user 0 is -1, below -1/e
    assert float(adaptive.per_user[0]) == pytest.approx(TAU / math.e, rel=1e-4)


def test_adap_tau_learns_from_losses_at_temperature_1_and_trains_at_each_users_own() -> None:
    objective, users = objective_of("adap_tau"), torch.arange(B)
    assert objective.adaptive is not None
    expected, tau_B = AdaptiveTemperature(TAU, B), torch.full((B,), TAU)
    for seed in range(2):
        items_BR, generator = drawn(seed)[0], torch.Generator().manual_seed(seed)
        loss = objective(USERS, POSITIVES, lambda rows: ITEMS[rows], generator, BatchPart(users))
        positive_B = (USERS * ITEMS[POSITIVES]).sum(1)
        scores_BR = torch.einsum("bd,brd->br", USERS, ITEMS[items_BR])
        log_count = math.log(R / N)
        trained = row_losses(positive_B / tau_B, scores_BR / tau_B[:, None] - log_count, items_BR)
        assert float(loss) == pytest.approx(float(trained.mean()), rel=1e-5)
        expected.observe(users, row_losses(positive_B, scores_BR - log_count, items_BR))
        objective.end_epoch()
        expected.end_epoch()
        tau_B = expected.per_user
        torch.testing.assert_close(objective.adaptive.rule.per_user, tau_B)
        assert float(tau_B.std()) > 0.001


# FairNeg: Chen et al., WWW 2023.


def test_fairneg_moves_each_groups_share_against_its_excess_loss_with_momentum() -> None:
    step_size, momentum, groups = 0.05, 0.6, torch.tensor([0, 0, 0, 1, 1, 2])
    proposal = FairProposal(groups, step_size=step_size, momentum=momentum)
    share, velocity = np.array([3, 2, 1]) / 6, np.zeros(3)
    batches = [([0, 1, 3, 5], [4.0, 2.0, 1.0, 0.5]), ([2, 4, 4, 5], [2.5, 1.5, 0.5, 1.2])]
    for items, losses in batches:
        proposal.observe(torch.tensor(items), torch.tensor(losses))
        of_group = [[loss for item, loss in zip(items, losses, strict=True) if groups[item] == z] for z in range(3)]
        mean = np.array([sum(each) / len(each) for each in of_group])
        # v <- gamma v + alpha (L_z - mean of the groups' L), p <- p - v; alpha is a share of an even 1/Z here.
        velocity = momentum * velocity + step_size / 3 * (mean - mean.mean())
        share = share - velocity
        share = share / share.sum()
        np.testing.assert_allclose(proposal.share.numpy(), share, rtol=1e-6)
    assert proposal.share[0] < 1 / 2, "the group whose positives are fitted worst is drawn less as a negative"
    of_item = share[groups] / np.array([3, 3, 3, 2, 2, 1])
    np.testing.assert_allclose(proposal.probability(torch.arange(6)).numpy(), of_item, rtol=1e-5)


# MixGCF: Huang et al., KDD 2021, and DNS: Zhang et al., SIGIR 2013.


def test_mixgcf_chooses_the_candidates_of_the_highest_scores_and_mixes_them_with_one_share_of_the_positive() -> None:
    items_BR, generator = drawn()
    alpha_B = torch.rand((B, 1), generator=generator)[:, 0]
    total = 0.0
    for b in range(B):
        candidates = ITEMS[items_BR[b][items_BR[b] != POSITIVES[b]]]
        positive = ITEMS[POSITIVES[b]]
        mixed = alpha_B[b] * positive + (1 - alpha_B[b]) * candidates  # e' = alpha e+ + (1 - alpha) e-
        # With one share for all candidates, the order by mixed score is the order by score: the hardest are those of DNS.
        hardest = mixed[(candidates @ USERS[b]).argsort(descending=True)[:2]]
        logits = torch.cat([positive[None], hardest]) @ USERS[b] / TAU
        total += float(cross_entropy(logits, torch.tensor(0)))
    loss = objective_of("mixgcf", num_hardest=2)(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(total / B, rel=1e-5)


def test_dns_with_one_hardest_negative_is_the_papers_pairwise_loss() -> None:
    items_BR, _ = drawn()
    scores_BR = torch.einsum("bd,brd->br", USERS, ITEMS[items_BR]).masked_fill(items_BR == POSITIVES[:, None], -math.inf)
    expected = softplus((scores_BR.max(1).values - (USERS * ITEMS[POSITIVES]).sum(1)) / TAU).mean()
    loss = objective_of("dns", num_hardest=1)(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


# Popularity: Mikolov et al. 2013. In-batch with logQ: Yi et al., RecSys 2019. MNS: Yang et al., WWW 2020.


def test_popularity_is_the_unigram_distribution_to_the_three_quarters() -> None:
    weight = FREQUENCY.double().numpy() ** 0.75
    exponent = NegativeConfig.for_method("popularity").popularity_exponent
    found = PopularityProposal(FREQUENCY, exponent).probability(torch.arange(N))
    np.testing.assert_allclose(found.numpy(), weight / weight.sum(), rtol=1e-5)


def test_in_batch_logq_leaves_the_positive_as_it_is_and_so_estimates_the_full_softmax() -> None:
    size, generator = 4096, torch.Generator().manual_seed(5)
    positives = torch.multinomial(FREQUENCY, size, replacement=True, generator=generator)
    users = normalize(torch.randn(size, D, generator=generator), dim=-1)
    logits_BN, own_B = users @ ITEMS.T / TAU, positives[:, None]
    full = cross_entropy(logits_BN, positives)
    loss = objective_of("in_batch_logq", num_users=size)(users, positives, lambda rows: ITEMS[rows])
    assert float(loss) == pytest.approx(float(full), rel=0.01)
    # Yi et al. take log p_j off every logit of the batch, the positive's own too: that is another loss.
    counts_N = torch.bincount(positives, minlength=N)
    every_N = (counts_N.float() / FREQUENCY).log()
    of_paper = torch.logsumexp(logits_BN + every_N, 1) - (logits_BN.gather(1, own_B)[:, 0] - FREQUENCY[positives].log())
    assert abs(float(of_paper.mean() - full)) > 0.1


@pytest.mark.parametrize(("method", "corrected"), [("mns", False), ("debiased_mns", True)])
def test_mns_expects_an_item_as_often_as_batch_and_pool_together_should_hold_it(method: str, corrected: bool) -> None:
    pool = torch.randint(N, (30,), generator=torch.Generator().manual_seed(0))
    rows = torch.cat([POSITIVES, pool])
    count = (B - 1) * FREQUENCY[rows] + len(pool) / N
    logits_BR = USERS @ ITEMS[rows].T / TAU - (count.log() if corrected else 0.0)
    expected = row_losses((USERS * ITEMS[POSITIVES]).sum(1) / TAU, logits_BR, rows.expand(B, -1)).mean()
    objective = objective_of(method, num_pool=len(pool))
    loss = objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0))
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


# Cross-batch negatives: Wang et al., SIGIR 2021.


def test_the_cross_batch_cache_drops_the_oldest_first_and_keeps_embeddings_as_they_were() -> None:
    objective = objective_of("cross_batch", num_cached=B)
    worlds = [normalize(ITEMS + 0.3 * step, dim=-1) for step in range(3)]
    batches = [POSITIVES + step for step in range(3)]
    for vectors, positives in zip(worlds, batches, strict=True):
        loss = objective(USERS, positives, lambda rows, vectors=vectors: vectors[rows])
    users, (_, before, now) = USERS / TAU, batches
    vectors = torch.cat([worlds[2][now], worlds[1][before]])  # the first batch has been pushed out
    rows = torch.cat([now, before])
    logits = users @ vectors.T - ((2 * B - 1) * FREQUENCY[rows]).log()
    logits = logits.masked_fill(rows == now[:, None], -math.inf)
    own = (users * worlds[2][now]).sum(1)
    expected = (torch.logsumexp(torch.cat([own[:, None], logits], 1), 1) - own).mean()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
