"""A small catalogue and its users, as vectors, and the objective over them."""

import torch
from torch.nn.functional import normalize

from esans_core.cluster_index import ClusterIndex
from esans_core.negatives import NegativeConfig
from esans_core.objective import BatchPart, RetrievalObjective
from esans_core.sampler import SemanticNegativeSampler

N, D, B, TAU = 60, 8, 12, 0.1
ITEMS = normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=-1)
USERS = normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)), dim=-1)
POSITIVES = torch.arange(B) * 4
FREQUENCY = torch.softmax(torch.randn(N, generator=torch.Generator().manual_seed(2)), 0)


def sampler() -> SemanticNegativeSampler:
    index = ClusterIndex.from_labels(torch.arange(N) % 4, torch.arange(N) // 4 % 3)
    return SemanticNegativeSampler(index, torch.randn(4, 5, generator=torch.Generator().manual_seed(3)), num_hard=3)


def objective_of(config: NegativeConfig) -> RetrievalObjective:
    groups = torch.arange(N) % 4
    return RetrievalObjective(config, FREQUENCY, temperature=TAU, sampler=sampler(), item_groups=groups, num_users=B)


def loss_of(config: NegativeConfig, seed: int = 0, items: torch.Tensor = ITEMS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return objective_of(config)(USERS, POSITIVES, lambda rows: items[rows], generator, BatchPart(torch.arange(B)))
