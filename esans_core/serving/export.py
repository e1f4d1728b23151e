"""Exports trained towers as programs of their own (`torch.export`, saved as pt2). Running them takes only torch, and no pickle.

The same weights give the same bytes, because a program's notes on the source lines that it came from are left out.

Shape legend: B users or items, L history length, F content features, D embedding dimension.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from esans_core.item_input import POPULARITY
from esans_core.standardisation import standardise
from esans_core.towers import TwoTower

_TRACES = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")


class NewItemEncoder(nn.Module):
    """The item side for an item that training never saw: from its raw content to its item input and its embedding.

    Args:
        model: trained towers; copied, so later training does not change this module.
    """

    def __init__(self, model: TwoTower) -> None:
        super().__init__()
        known, beside = model.item_input, model.context_input
        self.register_buffer("mean", known.content_mean.clone())
        self.register_buffer("std", known.content_std.clone())
        self.register_buffer("unknown_id", known.id_embedding.weight.detach()[-1].clone())
        self.register_buffer("unknown_context", beside.id_embedding.weight.detach()[-1].clone())
        self.projection, self.tower = copy.deepcopy(known.content_projection), copy.deepcopy(model.item_tower)
        self.context_projection = copy.deepcopy(beside.content_projection)
        popularity = None if known.popularity is None else POPULARITY * known.popularity.weight.detach()[-1]
        self.register_buffer("popularity", popularity)

    mean: Tensor
    std: Tensor
    unknown_id: Tensor
    unknown_context: Tensor
    popularity: Tensor | None

    def forward(self, content_BF: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [B, F], NaN for a missing view -> inputs of the user tower, float32 [B, D], and embeddings.

        A program cannot raise an error about its input, so an infinite value counts as a value at the bound.
        """
        content_BF = standardise(content_BF, self.mean, self.std)
        vectors_BD = self.tower(self.unknown_id + self.projection(content_BF))
        if self.popularity is not None:
            vectors_BD = torch.cat([vectors_BD, self.popularity.expand(vectors_BD.shape[0], 1)], dim=1)
        return self.unknown_context + self.context_projection(content_BF), vectors_BD


class _UserEncoder(nn.Module):
    """`TwoTower.encode_users`, from item inputs on."""

    def __init__(self, model: TwoTower) -> None:
        super().__init__()
        self.tower, self.has_popularity = copy.deepcopy(model.user_tower), model.item_input.popularity is not None
        self.beside = copy.deepcopy(model.user_input)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor, features_BG: Tensor | None = None) -> Tensor:
        users_BD = self.tower(x_BLD, mask_BL)
        users_BD = users_BD if self.beside is None else self.beside(users_BD, features_BG)
        return nn.functional.pad(users_BD, (0, 1), value=1.0) if self.has_popularity else users_BD


def export_user_tower(model: TwoTower, file: Path) -> None:
    """Write the user tower: item inputs float32 [B, L, D], oldest first, and mask bool [B, L] -> float32 [B, D].

    If the model knows features of users, these are a third input, float32 [B, G], NaN where something is missing.

    The mask is True up to the last event of each row. Any B, and any L up to the longest history of the model. If items have a
    popularity, the result has one more number for it, as that of `TwoTower.encode_users`.
    """
    tower = _UserEncoder(model).cpu().eval()
    longest, dim = model.user_tower.max_history, model.options["dim"]
    length = min(2, longest)
    axes: dict[int, Any] = {0: Dim("batch", min=1)}
    if longest > 1:
        axes[1] = Dim("length", min=1, max=longest)
    inputs: tuple[Tensor, ...] = (torch.zeros(2, length, dim), torch.ones(2, length, dtype=torch.bool))
    shapes: tuple[dict[int, Any], ...] = (axes, axes)
    if model.user_input is not None:
        inputs, shapes = (*inputs, torch.zeros(2, len(model.user_input.mean))), (axes, axes, {0: axes[0]})
    _save(tower, inputs, shapes, file)


def export_item_tower(model: TwoTower, file: Path) -> None:
    """Write the item tower for new items; see `NewItemEncoder`. Any B."""
    encoder = NewItemEncoder(model).cpu().eval()
    _save(encoder, (torch.zeros(2, len(encoder.mean)),), ({0: Dim("batch", min=1)},), file)


def _save(module: nn.Module, inputs: tuple[Tensor, ...], axes: tuple[dict[int, Any], ...], file: Path) -> None:
    program = torch.export.export(module, inputs, dynamic_shapes=axes)
    for node in program.graph.nodes:
        for name in _TRACES:
            node.meta.pop(name, None)
    program.example_inputs = None  # they would be stored as a pickle
    torch.export.save(program, file)
