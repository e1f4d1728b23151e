"""Methods by name: what they fix, what they leave open, and what a method of one's own brings along."""

import subprocess
import sys
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from esans_core.gbce import GeneralisedBinaryLoss
from esans_core.negatives import DEFAULTS, METHODS, NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.parts import Catalogue
from esans_core.proposals import ItemProposal
from esans_core.sce import SCE, ScalableCrossEntropy
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
    assert done.stdout.split() == ["17", "4", "False"], done.stderr


def test_the_defaults_are_those_of_the_methods() -> None:
    assert set(DEFAULTS) == {field.name for field in fields(NegativeConfig)}
    for method in METHODS:
        config = NegativeConfig.for_method(method)
        assert config == NegativeConfig.for_method(method, **DEFAULTS)
        assert config.lambda_low == DEFAULTS["lambda_low"]
    assert NegativeConfig.for_method("dns").num_hardest == DEFAULTS["num_hardest"]
    with pytest.raises(ValueError, match="unknown proposal 'other': choose uniform, popularity, fair"):
        RetrievalObjective(NegativeConfig(num_per_positive=2, proposal="other", semantic=False), torch.ones(N), temperature=1.0)


def test_what_a_method_brings_along_can_be_given_other_values_by_name() -> None:
    assert NegativeConfig.for_method("gbce", own={"calibration": 0.9}).row_loss == GeneralisedBinaryLoss(0.9)
    found = NegativeConfig.for_method("sce", own={"bucket_items": 7, "mix": True}).step_loss
    assert found == ScalableCrossEntropy(bucket_items=7, mix=True)
    assert SCE.fixed["step_loss"] == ScalableCrossEntropy(), "the recipe itself stays as it is"
    with pytest.raises(ValueError, match="sce has no field of its own named calibration"):
        NegativeConfig.for_method("sce", own={"calibration": 0.9, "mix": True})
    with pytest.raises(ValueError, match="uniform has no field of its own named mix"):
        NegativeConfig.for_method("uniform", own={"mix": True})


def test_a_loss_of_its_own_stands_only_where_its_negatives_fit() -> None:
    bare = {"in_batch": False, "num_pool": 0, "semantic": False}
    for others in ({"num_pool": 8}, {"in_batch": True}, {"semantic": True}, {"num_per_positive": 0, "all_items": True}):
        with pytest.raises(ValueError, match="row_loss needs negatives that are drawn for each positive"):
            NegativeConfig(**bare | {"num_per_positive": 4, "row_loss": GeneralisedBinaryLoss()} | others)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step_loss takes the place of every other source"):
        NegativeConfig(**bare | {"num_pool": 8}, step_loss=ScalableCrossEntropy())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no temperature of each user"):
        NegativeConfig(**bare, step_loss=ScalableCrossEntropy(), adaptive_temperature=True)  # type: ignore[arg-type]
