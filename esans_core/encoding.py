"""Encodes the items that a step needs, each of them once where that costs no wait."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def encode_once(
    wanted: Sequence[Tensor], encode_items: Callable[[Tensor], Tensor], num_items: int, *, may_look: bool
) -> list[Tensor]:
    """Embeddings of several tensors of items, through one call of the item tower.

    Args:
        wanted: item rows, int64 of any shapes.
        encode_items: int64 [n] item rows -> float32 [n, D].
        num_items: N, items of the catalogue.
        may_look: whether the host can find the distinct items without waiting for a queue of work. If it cannot, items are
            encoded as often as they are wanted, but never more of them than the catalogue has.

    Returns:
        float32 [..., D] for each tensor [...].
    """
    items_n = torch.cat([items.flatten() for items in wanted])
    if may_look:
        unique, place = torch.unique(items_n, return_inverse=True)
        encoded = torch.nn.functional.embedding(place, encode_items(unique))
    elif len(items_n) < num_items:
        encoded = encode_items(items_n)
    else:
        encoded = torch.nn.functional.embedding(items_n, encode_items(torch.arange(num_items, device=items_n.device)))
    # One split, and every part is used whole, because the gradient of a slice would be a zero-filled copy of the whole.
    parts = encoded.split([items.numel() for items in wanted])
    return [part.view(*items.shape, encoded.shape[1]) for part, items in zip(parts, wanted, strict=True)]
