"""Embeddings of several members: unit vectors side by side, divided by the root of their number, so that together they are one.

The inner product of two such embeddings is the mean of the members' cosines. So whatever searches or stores embeddings need not
know of members (`esans_core.user_towers.Ensemble`).

Shape legend: D dimension, M members.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Unit vectors [..., D / M] of M members, as one unit vector [..., D]."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1) * len(parts) ** -0.5


def part_of(vectors: Tensor, member: int, members: int) -> Tensor:
    """The unit vectors of one member, [..., D / M], from the `joined` ones, [..., D]; with popularity, one number more on both.

    Args:
        vectors: [..., D], or [..., D + 1] with popularity.
        member: number of the member.
        members: M.
    """
    if members == 1:
        return vectors
    width = vectors.shape[-1] // members
    part = vectors[..., member * width : (member + 1) * width] * members**0.5
    popularity = vectors[..., members * width :]
    return torch.cat([part, popularity], dim=-1) if popularity.shape[-1] else part


def normalised(vectors: Tensor, members: int) -> Tensor:
    """Any vectors [..., D], of which each member's part is made a unit vector, as one unit vector [..., D]."""
    return joined([functional.normalize(part, dim=-1) for part in vectors.chunk(members, dim=-1)])
