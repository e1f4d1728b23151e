"""The cross-batch cache (Wang et al. 2021, arXiv 2110.15154): positives of earlier steps with the embeddings they had."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from esans_core.parts import StepOutcome
from esans_core.sources import Drawn, Source


class EmbeddingCache(Source):
    """Keeps the latest positives and their embeddings, and counts how often an item is expected among them.

    Its content is part of its `state_dict`, whatever its length, so that training can go on in the midst of an epoch. Each
    epoch begins with an empty cache, so an epoch depends only on the state before it and on its seed.

    Args:
        num_cached: how many positives it keeps.
        item_frequency: float [N], share of each item among training targets.
    """

    def __init__(self, num_cached: int, item_frequency: Tensor) -> None:
        super().__init__()
        self.num_cached = num_cached
        self.register_buffer("_item_frequency", item_frequency, persistent=False)
        self.register_buffer("items", torch.empty(0, dtype=torch.long, device=item_frequency.device))
        self.register_buffer("vectors", torch.empty(0, 0, device=item_frequency.device))

    _item_frequency: Tensor
    items: Tensor
    vectors: Tensor

    def __len__(self) -> int:
        """How many positives it holds now."""
        return len(self.items)

    def draw(self, positives_B: Tensor, generator: torch.Generator | None) -> Drawn:
        """Draw nothing, because cached items need not be encoded again."""
        return Drawn()

    def expected_counts(self, positives_B: Tensor, items: Tensor) -> Tensor:
        """See `Source`."""
        return self._item_frequency[items] * len(self.items)

    def begin_epoch(self) -> None:
        """Forget everything."""
        self.items, self.vectors = self.items[:0], self.vectors[:0]

    end_epoch = begin_epoch

    def observe(self, outcome: StepOutcome) -> None:
        """Keep the step's positives in place of the oldest ones."""
        vectors = self.vectors if len(self.items) else outcome.vectors_BD[:0]
        self.items = torch.cat([self.items, outcome.positives_B])[-self.num_cached :]
        self.vectors = torch.cat([vectors, outcome.vectors_BD])[-self.num_cached :]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        for name in ("items", "vectors"):  # take the length that they have in the state
            if f"{prefix}{name}" in state_dict:
                setattr(self, name, torch.empty_like(state_dict[f"{prefix}{name}"], device=self.items.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
