"""Positive mixing after MixGCF (Huang et al., KDD 2021, doi:10.1145/3447548.3467408, section 3.2, equation 7).

A negative e_m becomes alpha e_p + (1 - alpha) e_m with the positive e_p and alpha uniform on (0, 1); then the hardest are
kept. The paper's second half, pooling over the layers of a graph network (equation 8), has no place in a model without a graph.
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

    Were each negative to have a share of its own, the largest shares would be chosen for the hardest, and those are next to
    the positive itself.
    """

    def draw(self, items_BR: "Tensor", generator: "torch.Generator | None") -> "Tensor":
        """alpha, float32 [B, R], the same for all R negatives of a positive."""
        import torch  # in here, so that names of methods can be read without it

        return torch.rand((len(items_BR), 1), generator=generator, device=items_BR.device).expand(items_BR.shape)

    def logits(self, positive_logits: "Tensor", logits: "Tensor", drawn: "Tensor") -> "Tensor":
        """<u, alpha e_p + (1 - alpha) e_m>, the same combination of logits."""
        return drawn * positive_logits[:, None] + (1 - drawn) * logits


MIXGCF = Recipe.of("mixgcf", "num_per_positive", "num_hardest", proposal="uniform", mixing=PositiveMixing(), log_q=0.0)
