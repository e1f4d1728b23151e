"""Methods by name: what they fix, what they leave open, and what a method of one's own brings along."""

import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from esans_core.negatives import DEFAULTS, METHODS, NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.parts import Catalogue
from esans_core.proposals import ItemProposal
from esans_core.sources import Drawn, Source

N, D, B = 20, 4, 6


class OneItem(ItemProposal):
    """Draws one item alone."""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return torch.full(shape, 7)

    def probability(self, items: Tensor) -> Tensor:
        return (items == 7).float()


class EveryThird(Source):
    """Shares every third item with the batch."""

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        return Drawn(torch.arange(0, N, 3))

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor:
        return (items % 3 == 0).float()


def own_source(config: NegativeConfig, catalogue: Catalogue) -> Source:
    assert catalogue.num_items == N and config.more_sources
    return EveryThird()


def own_proposal(config: NegativeConfig, catalogue: Catalogue) -> ItemProposal:
    return OneItem()


def test_a_proposal_and_a_source_of_a_methods_own_need_no_change_elsewhere() -> None:
    items, users = normalize(torch.randn(N, D), dim=-1), normalize(torch.randn(B, D), dim=-1)
    positives = torch.arange(B)
    config = NegativeConfig(False, 0, num_per_positive=2, proposal=own_proposal, semantic=False, more_sources=(own_source,))
    loss = RetrievalObjective(config, torch.full((N,), 1 / N), temperature=0.1)(users, positives, lambda rows: items[rows])
    logits, total = users @ items.T / 0.1, 0.0
    for i in range(B):
        # item 7 is drawn twice and expected twice, every third item once and once
        others = [j for j in (7, *range(0, N, 3)) if j != i]
        total += float(torch.logsumexp(torch.stack([logits[i, i], *(logits[i, j] for j in others)]), 0) - logits[i, i])
    assert float(loss) == pytest.approx(total / B, rel=1e-5)


def test_names_and_defaults_can_be_read_without_torch() -> None:
    code = (
        "import sys\n"
        "from esans_core.negatives import DEFAULTS, METHODS, NegativeConfig\n"
        "print(len(METHODS), NegativeConfig.for_method('mixgcf').num_hardest, 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["14", "4", "False"], done.stderr


def test_the_defaults_are_those_of_the_methods() -> None:
    assert set(DEFAULTS) == {field.name for field in fields(NegativeConfig)}
    for method in METHODS:
        config = NegativeConfig.for_method(method)
        assert config == NegativeConfig.for_method(method, **DEFAULTS)
        assert config.lambda_low == DEFAULTS["lambda_low"]
    assert NegativeConfig.for_method("dns").num_hardest == DEFAULTS["num_hardest"]
    with pytest.raises(ValueError, match="unknown proposal 'other': choose uniform, popularity, fair"):
        RetrievalObjective(NegativeConfig(num_per_positive=2, proposal="other", semantic=False), torch.ones(N), temperature=1.0)
