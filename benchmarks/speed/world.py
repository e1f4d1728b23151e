"""A made-up catalogue and log with real towers that train on them. The training step is measured on these."""

from dataclasses import dataclass

import torch
from torch import Tensor

from esans_core import ClusterIndex, NegativeConfig, RetrievalObjective, SemanticNegativeSampler, TwoTower

NEGATIVES = 15  # real negatives per positive: m_c m_o + num_hard = 2 * 5 + 5
_TEMPERATURE, _SECONDARY, _CODE_DIM, _HEADS = 0.07, 16, 64, 4


@dataclass(frozen=True)
class WorldSize:
    """Attributes: N items; K_p primary clusters; B positives in a step; F content features; L events of history; D."""

    num_items: int = 100_000
    num_primary: int = 128
    batch: int = 1024
    num_features: int = 128
    history: int = 50
    dim: int = 64


class World:
    """The catalogue with clusters and popularity, a log to draw batches from, and the model with its AdamW."""

    def __init__(self, size: WorldSize, device: torch.device | str = "cpu") -> None:
        self.size, self.device = size, torch.device(device)
        torch.manual_seed(0)
        self.generator = torch.Generator(device).manual_seed(0)
        shape = (size.num_items,)
        self.model = TwoTower(
            torch.randn(size.num_items, size.num_features),
            torch.ones(shape, dtype=torch.bool),
            dim=size.dim,
            num_heads=_HEADS,
            max_history=size.history,
        ).to(self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        weight = 1 / (torch.randperm(size.num_items) + 100.0)
        self.frequency = (weight / weight.sum()).to(self.device)
        self._cumulative = self.frequency.double().cumsum(0)
        primary, secondary = torch.randint(size.num_primary, shape), torch.randint(_SECONDARY, shape)
        index = ClusterIndex.from_labels(primary, secondary, size.num_primary).to(self.device)
        codes = torch.nn.functional.normalize(torch.randn(size.num_primary, _CODE_DIM), dim=1)
        self.sampler = SemanticNegativeSampler(index, codes)

    def batch(self) -> tuple[Tensor, Tensor]:
        """Histories int64 [B, L] and positives int64 [B]; items are drawn by popularity."""
        shape = (self.size.batch, self.size.history + 1)
        drawn = torch.rand(shape, device=self.device, generator=self.generator, dtype=torch.float64)
        items = torch.searchsorted(self._cumulative, drawn).clamp_(max=self.size.num_items - 1)
        return items[:, :-1].contiguous(), items[:, -1].contiguous()

    def objective(self, config: NegativeConfig, sampler: SemanticNegativeSampler | None = None) -> RetrievalObjective:
        """The loss of a method on this catalogue, with this world's sampler unless another is given."""
        return RetrievalObjective(config, self.frequency, temperature=_TEMPERATURE, sampler=sampler or self.sampler)
