"""The trained towers frozen into one module that answers with item rows; what is exported and registered."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.towers import TwoTower


class RetrievalModule(nn.Module):
    """History in, best unseen items out, by exact search over precomputed item embeddings.

    Args:
        model: trained towers; copied, so later training does not change this module.
        k: items to return; capped at N.
    """

    def __init__(self, model: TwoTower, k: int = 200) -> None:
        super().__init__()
        was_training = model.training
        model.eval()
        with torch.no_grad():
            inputs = model.item_input(torch.arange(model.num_items, device=model.item_input.content.device))
            self.register_buffer("item_inputs", inputs.clone())
            self.register_buffer("item_embeddings", model.item_tower(inputs).clone())
        model.train(was_training)
        self.user_tower = copy.deepcopy(model.user_tower).eval()
        self.k = min(k, model.num_items)

    item_inputs: Tensor
    item_embeddings: Tensor

    def forward(self, history: Tensor) -> Tensor:
        """int64 [B, L] item rows, oldest first, aligned right, padded with -1 -> int64 [B, k] item rows, best first."""
        mask = history >= 0
        rows = history.clamp_min(0)
        users = self.user_tower(functional.embedding(rows, self.item_inputs), mask)
        scores = users @ self.item_embeddings.T
        seen = torch.zeros_like(scores).scatter_add(1, rows, mask.to(scores.dtype)) > 0
        return scores.masked_fill(seen, -torch.inf).topk(self.k, dim=1).indices
