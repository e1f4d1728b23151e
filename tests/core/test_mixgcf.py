"""MixGCF's loss against one that makes every mixed vector."""

import pytest
import torch
from torch.nn.functional import normalize

from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective

N, D, B, R, TAU = 60, 8, 12, 9, 0.1


@pytest.mark.parametrize("keep", [R, 3])
def test_mixing_takes_a_random_share_of_the_positive_before_the_hardest_are_kept(keep: int) -> None:
    generator = torch.Generator().manual_seed(0)
    items, users = (normalize(torch.randn(n, D, generator=generator), dim=-1) for n in (N, B))
    positives, state = torch.arange(B) * 4, generator.get_state()
    drawn, share = torch.randint(N, (B, R), generator=generator), torch.rand((B, 1), generator=generator)
    mixed = share[..., None] * items[positives][:, None] + (1 - share[..., None]) * items[drawn]
    logits = torch.einsum("bd,brd->br", users, mixed) / TAU
    logits[drawn == positives[:, None]] = -torch.inf
    logits = logits.sort(dim=1, descending=True).values[:, :keep]
    positive = (users * items[positives]).sum(1, keepdim=True) / TAU
    expected = (torch.logsumexp(torch.cat([positive, logits], dim=1), 1) - positive[:, 0]).mean()

    config = NegativeConfig.for_method("mixgcf", num_per_positive=R, num_hardest=keep)
    objective = RetrievalObjective(config, torch.full((N,), 1 / N), temperature=TAU)
    generator.set_state(state)
    loss = objective(users, positives, lambda rows: items[rows], generator)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
