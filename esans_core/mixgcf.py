"""Positive mixing after MixGCF (Huang et al., KDD 2021, doi:10.1145/3447548.3467408).

A negative e_m becomes alpha e_p + (1 - alpha) e_m with the positive e_p and alpha uniform on (0, 1); then the hardest are
kept. The paper's second half pools over the layers of a graph network, which a model without a graph lacks.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from esans_core.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class PositiveMixing:
    """Mixes one random share of the positive into all negatives drawn for it. A `RowMixing`.

    If each negative had a share of its own, those with the largest shares would be chosen as the hardest, and these lie next
    to the positive itself.
    """

    def draw(self, items_BR: "Tensor", generator: "torch.Generator | None") -> "Tensor":
        """alpha, float32 [B, R], the same for all R negatives of a positive."""
        import torch  # imported here, so that the names of methods can be read without it

        return torch.rand((len(items_BR), 1), generator=generator, device=items_BR.device).expand(items_BR.shape)

    def logits(self, positive_logits: "Tensor", logits: "Tensor", drawn: "Tensor") -> "Tensor":
        """<u, alpha e_p + (1 - alpha) e_m>, the same combination of logits."""
        return drawn * positive_logits[:, None] + (1 - drawn) * logits


MIXGCF = Recipe.of("mixgcf", "num_per_positive", "num_hardest", proposal="uniform", mixing=PositiveMixing(), log_q=0.0)
