"""Recipes: each defines a method of negative sampling by name, with the choices that it leaves open and the fields it fixes.

A new method is one file with its `Recipe`, and one line in the list of `esans_core.negatives`. What the fields of
`NegativeConfig` cannot express comes with the recipe: a `RowMixing` (`esans_core.mixgcf`), a `RowLoss` (`esans_core.gbce`), a
`StepLoss` (`esans_core.sce`), a proposal or a source of negatives. Nothing here imports torch, so that settings can read names
and defaults of methods at almost no cost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from esans_core.unscored_step import UnscoredStep


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

    def with_own(self, own: Mapping[str, Any]) -> "Recipe":
        """The recipe with other values for fields of what comes with it, such as `calibration` of `esans_core.gbce`.

        Raises:
            ValueError: nothing that comes with the recipe has such a field.
        """
        parts = {name: part for name, part in self.fixed.items() if is_dataclass(part) and not isinstance(part, type)}
        known = {name: {each.name for each in fields(part)} & set(own) for name, part in parts.items()}
        if unknown := set(own).difference(*known.values()):
            raise ValueError(f"{self.name} has no field of its own named {', '.join(sorted(unknown))}")
        changed = {name: replace(part, **{each: own[each] for each in known[name]}) for name, part in parts.items()}
        return replace(self, fixed={**self.fixed, **changed})


class RowMixing(Protocol):
    """Turns negatives drawn for a positive into others, with random numbers that are drawn once for each."""

    def draw(self, items_BR: "Tensor", generator: "torch.Generator | None") -> "Tensor":
        """The random numbers, float32 [B, R], for negatives int64 [B, R]."""
        ...

    def logits(self, positive_logits: "Tensor", logits: "Tensor", drawn: "Tensor") -> "Tensor":
        """Logits of the new negatives, float [b, R], from logits of the positive [b] and of the old negatives [b, R]."""
        ...


class RowLoss(Protocol):
    """A loss over a positive and the negatives drawn for it, in place of the softmax."""

    def losses(self, positive_logits: "Tensor", negative_logits: "Tensor", num_items: int) -> "Tensor":
        """Loss of each positive, float [b].

        Args:
            positive_logits: float [b].
            negative_logits: float [b, R]; about -1e9 where a negative must not count, because it is the positive.
            num_items: N, items of the catalogue.
        """
        ...


class StepLoss(Protocol):
    """A loss that looks at vectors before it chooses its negatives. It takes the place of all sources and of the softmax."""

    def mean_loss(self, step: "UnscoredStep") -> "Tensor":
        """The mean loss of the batch, float32 scalar. With several processes, each returns its share of the mean."""
        ...
