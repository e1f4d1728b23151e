"""Draws against the chances they claim, and what adapts."""

import pytest
import torch

from esans_core.proposals import FairProposal, ItemProposal, PopularityProposal, UniformProposal
from esans_core.temperature import AdaptiveTemperature, lambert_w

FREQUENCY = torch.tensor([0.5, 0.0, 0.2, 0.2, 0.05, 0.05])
GROUPS = torch.tensor([0, 0, 1, 1, 1, -1])


@pytest.mark.parametrize(
    "proposal",
    [UniformProposal(6, torch.device("cpu")), PopularityProposal(FREQUENCY, 0.75), FairProposal(GROUPS)],
    ids=["uniform", "popularity", "fair"],
)
def test_draws_follow_the_probabilities(proposal: ItemProposal) -> None:
    draws = proposal.draw((1000, 200), torch.Generator().manual_seed(0))
    probability = proposal.probability(torch.arange(6))
    assert float(probability.sum()) == pytest.approx(1.0)
    assert torch.allclose(torch.bincount(draws.flatten(), minlength=6) / draws.numel(), probability, atol=0.004)


def test_popularity_has_its_exponent_and_leaves_unseen_items_out() -> None:
    probability = PopularityProposal(FREQUENCY, 0.75).probability(torch.arange(6))
    assert float(probability[0] / probability[2]) == pytest.approx(2.5**0.75)
    assert float(probability[1]) == 0


def test_groups_with_large_losses_are_drawn_less() -> None:
    proposal = FairProposal(GROUPS)
    before = proposal.share.clone()
    for _ in range(50):
        proposal.observe(torch.tensor([0, 2, 3]), torch.tensor([4.0, 1.0, 1.0]))
    assert float(proposal.share.sum()) == pytest.approx(1.0)
    assert proposal.share[1] < before[1] and proposal.share[2] > before[2]
    assert bool((proposal.share > 0).all())
    other = FairProposal(GROUPS)
    other.load_state_dict(proposal.state_dict())
    assert torch.equal(other.share, proposal.share) and torch.equal(other.velocity, proposal.velocity)


def test_lambert_w_inverts_w_exp_w() -> None:
    w = torch.cat([torch.linspace(-1, 0, 201), torch.linspace(0, 6, 601)]).double()
    assert torch.allclose(lambert_w(w * w.exp()), w, atol=1e-6)
    assert float(lambert_w(torch.tensor([-5.0]))) == pytest.approx(-1.0, abs=1e-6)


def test_temperature_rises_for_users_with_large_losses_and_only_after_an_epoch() -> None:
    adaptive = AdaptiveTemperature(0.1, 4)
    adaptive.observe(torch.tensor([0, 0, 1, 2]), torch.tensor([3.0, 5.0, 1.0, 2.5]))
    assert torch.equal(adaptive.per_user, torch.full((4,), 0.1))
    adaptive.end_epoch()
    assert adaptive.per_user[0] > adaptive.per_user[2] > adaptive.per_user[1]
    assert float(adaptive.per_user[2]) == pytest.approx(0.1)  # 2.5 is the mean over users
    assert float(adaptive.per_user[3]) == pytest.approx(0.1)
    assert float(adaptive.per_user[1]) == pytest.approx(0.1 / torch.e, rel=1e-3)  # as far as the branch point allows
    adaptive.end_epoch()  # nothing observed: nothing changes
    assert float(adaptive.per_user[2]) == pytest.approx(0.1)
