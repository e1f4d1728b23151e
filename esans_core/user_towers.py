"""User towers: from the item inputs of a user's events to the user's embedding.

There are two, because logs are of two kinds. If events have an order, a transformer reads them one after the other, and every
prefix of a history is an example of the same pass (Kang & McAuley, ICDM 2018, doi:10.1109/ICDM.2018.00035). If they have none,
a user is a set, and each item is predicted from all the others (FISM: Kabbur et al., KDD 2013, doi:10.1145/2487575.2487589).

Shape legend: B users or excerpts, L events, oldest first and padded after the last, D dimension, H heads.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from esans_core.mask_dropout import MaskDropout
from esans_core.members import joined

_FILTER_SHARE = 0.7  # of a layer's filter; the rest is attention
_LATEST = 10  # events whose mean is the slow part of a history
_LATEST_SHARE = 0.5  # of the latest event, which is added to the result
_MEANS = {5: 0.1, 20: 0.1, None: 0.1}  # means of the latest events that may be added, None for all, and their shares at first
_SITES = 1000  # numbers of dropouts that each member of an ensemble has to itself


class SequenceTower(nn.Module):
    """A causal transformer over the sequence of a user's events.

    Args:
        dim: D.
        num_heads: H, attention heads.
        num_layers: transformer layers.
        max_history: most events it reads.
        dropout: dropout rate of its input, and of what each part of a layer adds.
        means: whether means of a user's latest 5, 20 and all events are added to the result, and not the latest event alone.
        member: number of the tower, if there are several; each drops other numbers.

    Raises:
        ValueError: the heads do not divide the dimension.
    """

    ordered = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_layers: int,
        max_history: int,
        dropout: float,
        *,
        means: bool = True,
        member: int = 0,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be divisible by num_heads ({num_heads})")
        self.max_history = max_history
        self.position = nn.Embedding(max_history, dim)
        nn.init.normal_(self.position.weight, std=0.02)
        site = member * _SITES
        self.norm, self.dropout = nn.LayerNorm(dim), MaskDropout(dim, dropout, site)
        layers = (_Layer(dim, num_heads, dropout, site + 1 + 3 * number) for number in range(num_layers))
        self.layers = nn.ModuleList(layers)
        shares = {1: _LATEST_SHARE} | (_MEANS if means else {})
        self._windows = tuple(shares)
        # How much of each mean is added to what the layers make.
        self.windows = nn.Parameter(torch.tensor(list(shares.values()))[:, None].repeat(1, dim))

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

    def contexts(self, x_BLD: Tensor, mask_BL: Tensor, keys_BL: Tensor | None = None) -> tuple[Tensor, None]:
        """The user before each event: an embedding that has seen only the events before it.

        Args:
            x_BLD: float32 [B, L, D], item inputs.
            mask_BL: bool [B, L], True where there is an event.
            keys_BL: int64 [B, L], keys of the dropout (`MaskDropout`).

        Returns:
            float32 [B, L, D], unit vectors, zero before the first event; and None, because no user stands for all events.
        """
        states_BLD = self._states(x_BLD[:, :-1], None if keys_BL is None else keys_BL[:, :-1])
        return functional.pad(states_BLD, (0, 0, 1, 0)), None

    def _states(self, x_BLD: Tensor, keys_BL: Tensor | None) -> Tensor:
        position_LD = self.position(torch.arange(x_BLD.shape[1], device=x_BLD.device))
        events_BLD = states_BLD = self.dropout(self.norm(x_BLD + position_LD), keys_BL)
        for layer in self.layers:
            states_BLD = layer(states_BLD, keys_BL)
        for size, share_D in zip(self._windows, self.windows, strict=True):
            states_BLD = states_BLD + share_D * _mean_of_latest(events_BLD, size)
        return functional.normalize(states_BLD, dim=-1)


class _Layer(nn.Module):
    """Attention and a filter side by side, both causal, then a network of two layers. Each adds to its input."""

    def __init__(self, dim: int, num_heads: int, dropout: float, site: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)  # a bias of the keys would cancel in the softmax
        self.out = nn.Linear(dim, dim)
        self.filter = _Filter(dim)
        self.wide, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(3))
        self.dropouts = nn.ModuleList(MaskDropout(dim, dropout, site + number) for number in range(3))
        for linear in (self.query_key_value, self.out, self.wide, self.narrow):
            nn.init.normal_(linear.weight, std=0.02)
        for linear in (self.out, self.wide, self.narrow):
            nn.init.zeros_(linear.bias)

    def forward(self, x_BLD: Tensor, keys_BL: Tensor | None) -> Tensor:
        attended_BLD = self._added(0, x_BLD, self._attended(x_BLD), keys_BL)
        filtered_BLD = self._added(1, x_BLD, self.filter(x_BLD), keys_BL)
        x_BLD = _FILTER_SHARE * filtered_BLD + (1 - _FILTER_SHARE) * attended_BLD
        return self._added(2, x_BLD, self.narrow(functional.gelu(self.wide(x_BLD))), keys_BL)

    def _attended(self, x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        heads_QBHLW = self.query_key_value(x_BLD).view(B, L, 3, self.num_heads, D // self.num_heads).permute(2, 0, 3, 1, 4)
        query_BHLW, key_BHLW, value_BHLW = heads_QBHLW.unbind(0)
        attended_BHLW = functional.scaled_dot_product_attention(query_BHLW, key_BHLW, value_BHLW, is_causal=True)
        return self.out(attended_BHLW.transpose(1, 2).reshape(B, L, D))

    def _added(self, number: int, x_BLD: Tensor, change_BLD: Tensor, keys_BL: Tensor | None) -> Tensor:
        return self.norms[number](x_BLD + self.dropouts[number](change_BLD, keys_BL))


class _Filter(nn.Module):
    """What changes slowly along a history, and a learnt share of what changes fast.

    The slow part is the mean of the latest events. BSARec (Shin et al., AAAI 2024) takes it from a Fourier transform of the
    whole history, which mixes later events into earlier ones; a mean of the latest is causal.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fast = nn.Parameter(torch.randn(dim))

    def forward(self, x_BLD: Tensor) -> Tensor:
        slow_BLD = _mean_of_latest(x_BLD, _LATEST)
        return slow_BLD + self.fast**2 * (x_BLD - slow_BLD)


def _mean_of_latest(x_BLD: Tensor, size: int | None) -> Tensor:
    """The mean of up to `size` events that end with each event, float [B, L, D]; None takes all up to it."""
    if size == 1:
        return x_BLD
    place_L = torch.arange(x_BLD.shape[1], device=x_BLD.device)
    age_LL = place_L[:, None] - place_L
    latest_LL = (age_LL >= 0 if size is None else (age_LL >= 0) & (age_LL < size)).to(x_BLD.dtype)
    return (latest_LL / latest_LL.sum(1, keepdim=True)) @ x_BLD


class SetTower(nn.Module):
    """The sum of the vectors of a user's events. The order of the events means nothing.

    A vector's length is the weight of its item. Nothing comes after the sum: on logs without order, networks and attention on
    it lost recall.

    Args:
        dim: D.
        max_history: most events it reads.
        dropout: dropout rate of its input.
        member: number of the tower, if there are several; each drops other numbers.
    """

    ordered = False

    def __init__(self, dim: int, max_history: int, dropout: float, *, member: int = 0) -> None:
        super().__init__()
        self.max_history, self.dropout = max_history, MaskDropout(dim, dropout, site=member * _SITES)

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """User embeddings of whole sets, float32 [B, D], unit vectors; see `SequenceTower.forward`."""
        return functional.normalize((self.dropout(x_BLD) * mask_BL[..., None]).sum(1), dim=-1)

    def contexts(self, x_BLD: Tensor, mask_BL: Tensor, keys_BL: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The user beside each event: an embedding that has seen all events but this one; see `SequenceTower.contexts`.

        Returns:
            float32 [B, L, D], unit vectors, zero if there is no other event; and float32 [B, D], the users of the whole sets.
        """
        x_BLD = self.dropout(x_BLD, keys_BL) * mask_BL[..., None]
        sum_BD = x_BLD.sum(1)
        others_BLD = (sum_BD[:, None] - x_BLD) * (mask_BL.sum(1) > 1)[:, None, None]
        return functional.normalize(others_BLD, dim=-1), functional.normalize(sum_BD, dim=-1)


class Ensemble(nn.Module):
    """Several user towers side by side. Each reads its own part of the item inputs and makes its own part of the embedding.

    Towers of other starting points and other dropouts err in other ways, so the mean of their scores is better than any of them
    (deep ensembles: Lakshminarayanan et al., NeurIPS 2017, arXiv 1612.01474).

    Args:
        towers: M towers of the same kind and dimension D / M.
    """

    def __init__(self, towers: Sequence[SequenceTower | SetTower]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(towers)
        self.ordered, self.max_history = towers[0].ordered, towers[0].max_history

    def forward(self, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
        """User embeddings, float32 [B, D], unit vectors; see `SequenceTower.forward`."""
        return joined([tower(part, mask_BL) for tower, part in self._parts(x_BLD)])

    def contexts(self, x_BLD: Tensor, mask_BL: Tensor, keys_BL: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The user before, or beside, each event; see `SequenceTower.contexts` and `SetTower.contexts`."""
        contexts, wholes = zip(*(tower.contexts(part, mask_BL, keys_BL) for tower, part in self._parts(x_BLD)), strict=True)
        return joined(contexts), None if wholes[0] is None else joined(wholes)

    def _parts(self, x_BLD: Tensor) -> Iterator[tuple[Any, Tensor]]:
        return zip(self.towers, x_BLD.chunk(len(self.towers), dim=-1), strict=True)
