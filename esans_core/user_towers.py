"""User towers: from the item inputs of a user's events to the user's embedding.

There are two, because logs are of two kinds. If events have an order, a transformer reads them one after the other, and every
prefix of a history is an example of the same pass (Kang & McAuley, ICDM 2018, doi:10.1109/ICDM.2018.00035). If they have none, a
user is a set, and each item is predicted from all the others.

Shape legend: B users or excerpts, L events, oldest first and padded after the last, D dimension, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.mask_dropout import MaskDropout


class SequenceTower(nn.Module):
    """A causal transformer over the sequence of a user's events.

    Args:
        dim: D.
        num_heads: H, attention heads.
        num_layers: transformer layers.
        max_history: most events it reads.
        dropout: dropout rate of its input, and of what each part of a layer adds.

    Raises:
        ValueError: the heads do not divide the dimension.
    """

    ordered = True

    def __init__(self, dim: int, num_heads: int, num_layers: int, max_history: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be divisible by num_heads ({num_heads})")
        self.max_history = max_history
        self.position = nn.Embedding(max_history, dim)
        nn.init.normal_(self.position.weight, std=0.02)
        self.norm, self.dropout = nn.LayerNorm(dim), MaskDropout(dim, dropout, site=0)
        self.layers = nn.ModuleList(_Layer(dim, num_heads, dropout, site=1 + 2 * number) for number in range(num_layers))

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """User embeddings after the last event, float32 [B, D], unit vectors.

        Args:
            x_BLD: float32 [B, L, D], item inputs.
            mask_BL: bool [B, L], True where there is an event. A user without any gets the zero vector.
        """
        states_BLD = self._states(x_BLD, None)
        length_B = mask_BL.sum(1)
        last_BD = states_BLD.gather(1, (length_B - 1).clamp_min(0)[:, None, None].expand(-1, 1, x_BLD.shape[2])).squeeze(1)
        return last_BD * (length_B > 0)[:, None]

    def contexts(self, x_BLD: Tensor, mask_BL: Tensor, keys_BL: Tensor | None = None) -> Tensor:
        """The user before each event: an embedding that has seen only the events before it.

        Args:
            x_BLD: float32 [B, L, D], item inputs.
            mask_BL: bool [B, L], True where there is an event.
            keys_BL: int64 [B, L], keys of the dropout (`MaskDropout`).

        Returns:
            float32 [B, L, D], unit vectors; zero before the first event.
        """
        states_BLD = self._states(x_BLD[:, :-1], None if keys_BL is None else keys_BL[:, :-1])
        return functional.pad(states_BLD, (0, 0, 1, 0))

    def _states(self, x_BLD: Tensor, keys_BL: Tensor | None) -> Tensor:
        position_LD = self.position(torch.arange(x_BLD.shape[1], device=x_BLD.device))
        states_BLD = self.dropout(self.norm(x_BLD + position_LD), keys_BL)
        for layer in self.layers:
            states_BLD = layer(states_BLD, keys_BL)
        return functional.normalize(states_BLD, dim=-1)


class _Layer(nn.Module):
    """Causal attention, then a network of two layers. Each adds to its input, and the sum is normalised."""

    def __init__(self, dim: int, num_heads: int, dropout: float, site: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)  # a bias of the keys would cancel in the softmax
        self.out = nn.Linear(dim, dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.attention_norm, self.network_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention_dropout, self.network_dropout = MaskDropout(dim, dropout, site), MaskDropout(dim, dropout, site + 1)
        for linear in (self.query_key_value, self.out, self.wide, self.narrow):
            nn.init.normal_(linear.weight, std=0.02)
        for linear in (self.out, self.wide, self.narrow):
            nn.init.zeros_(linear.bias)

    def forward(self, x_BLD: Tensor, keys_BL: Tensor | None) -> Tensor:
        B, L, D = x_BLD.shape
        heads_QBHLW = self.query_key_value(x_BLD).view(B, L, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        attended_BHLW = functional.scaled_dot_product_attention(*heads_QBHLW.unbind(0), is_causal=True)
        added_BLD = self.out(attended_BHLW.transpose(1, 2).reshape(B, L, D))
        x_BLD = self.attention_norm(x_BLD + self.attention_dropout(added_BLD, keys_BL))
        added_BLD = self.narrow(functional.gelu(self.wide(x_BLD)))
        return self.network_norm(x_BLD + self.network_dropout(added_BLD, keys_BL))


class SetTower(nn.Module):
    """A weighted mean over the set of a user's events, and a network on it. The order of the events means nothing.

    Args:
        dim: D.
        max_history: most events it reads.
        dropout: dropout rate of its input.
    """

    ordered = False

    def __init__(self, dim: int, max_history: int, dropout: float) -> None:
        super().__init__()
        self.max_history = max_history
        self.norm, self.dropout = nn.LayerNorm(dim), MaskDropout(dim, dropout, site=0)
        self.weight, self.value = nn.Linear(dim, 1), nn.Linear(dim, dim)
        self.network = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """User embeddings of whole sets, float32 [B, D], unit vectors; see `SequenceTower.forward`."""
        weight_BL1, value_BLD = self._weighted(x_BLD, mask_BL, None)
        return self._user(value_BLD.sum(1), weight_BL1.sum(1))

    def contexts(self, x_BLD: Tensor, mask_BL: Tensor, keys_BL: Tensor | None = None) -> Tensor:
        """The user beside each event: an embedding that has seen all events but this one; see `SequenceTower.contexts`.

        Returns:
            float32 [B, L, D], unit vectors; zero if there is no other event.
        """
        weight_BL1, value_BLD = self._weighted(x_BLD, mask_BL, keys_BL)
        return self._user(value_BLD.sum(1, keepdim=True) - value_BLD, weight_BL1.sum(1, keepdim=True) - weight_BL1)

    def _weighted(self, x_BLD: Tensor, mask_BL: Tensor, keys_BL: Tensor | None) -> tuple[Tensor, Tensor]:
        """Weights [B, L, 1] and weighted values [B, L, D], zero where there is no event."""
        x_BLD = self.dropout(self.norm(x_BLD), keys_BL)
        weight_BL1 = functional.softplus(self.weight(x_BLD)) * mask_BL[..., None]
        return weight_BL1, weight_BL1 * self.value(x_BLD)

    def _user(self, sum_nD: Tensor, weight_n1: Tensor) -> Tensor:
        has_any = weight_n1 > 1e-6  # what a difference of sums leaves is not exactly zero
        mean_nD = sum_nD / torch.where(has_any, weight_n1, 1.0)
        return functional.normalize(mean_nD + self.network(mean_nD), dim=-1) * has_any
