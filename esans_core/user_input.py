"""What is known of a user beside events: the features of the user's attributes, added to what the events say.

Shape legend: B users, G features of users, D embedding dimension.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.defaults import TRAINING
from esans_core.hashing import uniform_hash
from esans_core.item_input import ContentMap
from esans_core.sequences import Sequences
from esans_core.standardisation import SMALLEST_DEVIATION, standardise, usable_deviations


class Blocks(Protocol):
    """Users in blocks, as an `esans_core.loader.EventLog` has them."""

    @property
    def num_blocks(self) -> int:
        """How many blocks there are."""
        ...

    def read(self, block: int) -> Sequences:
        """The block's sequences."""
        ...


class UserInput(nn.Module):
    """U = normalise(events + map(features)), with the unit vector that the events give, or zero where there are none.

    Training hides the events of some users, so that the features alone must say what these want. So they learn to answer for a
    user who has no event yet.

    Args:
        num_features: G.
        dim: D.
        history_dropout: chance that training hides the events of a user.
    """

    def __init__(self, num_features: int, dim: int, history_dropout: float = TRAINING.history_dropout) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.full((num_features,), torch.inf))
        self.projection = ContentMap(num_features, dim)
        self.history_dropout = history_dropout

    mean: Tensor
    std: Tensor

    def standardise_by(self, mean_G: Tensor, std_G: Tensor) -> None:
        """Take the mean and the deviation of each feature, as `user_statistics` gives them."""
        self.mean.copy_(mean_G)
        self.std.copy_(std_G)

    def forward(self, events_BD: Tensor, features_BG: Tensor | None) -> Tensor:
        """Unit vectors float32 [B, D].

        Args:
            events_BD: float32 [B, D], what the events say: unit vectors, zero for a user without any.
            features_BG: float32 [B, G], NaN where something is missing; None if nothing is known of anybody.
        """
        if features_BG is None:
            features_BG = self.mean.new_full((len(events_BD), len(self.mean)), torch.nan)
        return functional.normalize(events_BD + self.projection(standardise(features_BG, self.mean, self.std)), dim=-1)

    def kept(self, users_B: Tensor, seed: int | None) -> Tensor:
        """float32 [B, 1], 0 where a training step hides the events of a user, else 1; the same for equal users.

        Args:
            users_B: int64 [B], rows of the users.
            seed: decides who it is; None: anybody.
        """
        if not self.training:
            return self.mean.new_ones(len(users_B), 1)
        chance_B = torch.rand(len(users_B), device=self.mean.device) if seed is None else uniform_hash(users_B, seed)
        return (chance_B >= self.history_dropout).float()[:, None]


def user_statistics(log: Blocks) -> tuple[Tensor, Tensor, Tensor] | None:
    """Mean and deviation of each feature over the users who have it, and how many have it; read block by block.

    Returns:
        float32 [G], float32 [G] (infinite for a feature that is the same for all), and int64 [G]; None if the log has no
        features of users.
    """
    total, squares, largest, count = None, torch.zeros(()), torch.zeros(()), torch.zeros(())
    for block in range(log.num_blocks):
        features = log.read(block).features
        if features is None:
            return None
        if total is None:
            total, squares, largest = (torch.zeros(features.shape[1], dtype=torch.float64) for _ in range(3))
            count = torch.zeros(features.shape[1], dtype=torch.int64)
        values = features.double().nan_to_num(0.0)
        total, squares, count = total + values.sum(0), squares + (values**2).sum(0), count + (~features.isnan()).sum(0)
        largest = torch.maximum(largest, values.abs().amax(0)) if len(values) else largest
    if total is None:
        return None
    mean = total / count.clamp_min(1)
    std = (squares / count.clamp_min(1) - mean**2).clamp_min(0).sqrt()
    return mean.float(), usable_deviations(std, largest, floor=SMALLEST_DEVIATION).float(), count
