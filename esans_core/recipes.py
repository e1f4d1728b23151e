"""Recipes: each defines a method of negative sampling by name, with the choices that it leaves open and the fields it fixes.

A new method is one file with its `Recipe`, and one line in the list of `esans_core.negatives`. What the fields of
`NegativeConfig` cannot express comes with the recipe: a `RowMixing`, a proposal or a source of negatives (`esans_core.mixgcf`).
Nothing here imports torch, so that settings can read names and defaults of methods at almost no cost.
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
        name: name of the method in settings.
        chosen: switches and sources of `NegativeConfig` that a user's values may decide; every other one is off.
        fixed: fields that the method fixes, whatever the user's values say.
        defaults: fields with a default of the method's own; the user's values come before it.
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
    """Turns negatives drawn for a positive into others, with random numbers that are drawn once for each."""

    def draw(self, items_BR: "Tensor", generator: "torch.Generator | None") -> "Tensor":
        """The random numbers, float32 [B, R], for negatives int64 [B, R]."""
        ...

    def logits(self, positive_logits: "Tensor", logits: "Tensor", drawn: "Tensor") -> "Tensor":
        """Logits of the new negatives, float [b, R], from logits of the positive [b] and of the old negatives [b, R]."""
        ...
