"""What a method of negative sampling is by name: the choices that it leaves open, and the fields that it fixes.

A new method is one file with its `Recipe`, and one line in the list of `esans_core.negatives`. What no field of
`NegativeConfig` can say, the recipe brings along: a `RowMixing`, a proposal or a source of negatives (`esans_core.mixgcf`).
Nothing here imports torch, so that settings can read names and defaults of methods for next to nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """A method, as a configuration of the one training step that all methods share.

    Attributes:
        name: what settings call it.
        chosen: switches and sources of `NegativeConfig` that values may decide; every other one is off.
        fixed: fields that the method fixes, whatever values say.
        defaults: fields of which the method has a usual value of its own; values come before it.
    """

    name: str
    chosen: frozenset[str] = frozenset()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, *chosen: str, **fixed: Any) -> "Recipe":
        """A recipe without defaults of its own."""
        return cls(name, frozenset(chosen), fixed)


class RowMixing(Protocol):
    """Turns negatives drawn for a positive into others, by random numbers that are drawn once for each."""

    def draw(self, items_BR: "Tensor", generator: "torch.Generator | None") -> "Tensor":
        """The random numbers, float32 [B, R], for negatives int64 [B, R]."""
        ...

    def logits(self, positive_logits: "Tensor", logits: "Tensor", drawn: "Tensor") -> "Tensor":
        """Logits of what the negatives become, float [b, R], from logits of the positive [b] and of the negatives [b, R]."""
        ...
