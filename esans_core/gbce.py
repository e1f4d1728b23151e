"""gBCE: binary cross-entropy that weighs the positive by how few of the items are drawn as negatives.

Petrov and Macdonald, "gSASRec: Reducing Overconfidence in Sequential Recommendation Trained with Negative Sampling",
RecSys 2023, arXiv 2308.07192. The formulas are those that the authors give with their code (github.com/asash/gsasrec and
github.com/asash/gSASRec-pytorch).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from esans_core.recipes import Recipe

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GeneralisedBinaryLoss:
    """Binary cross-entropy of one positive and its R negatives, with the positive's part times beta. A `RowLoss`.

    With the scores s+ and s_j, the share alpha = R / (N - 1) of the N items that is drawn, and the calibration t:

        loss = -1 / (R + 1) (log(sigmoid(s+)^beta) + sum_j log(1 - sigmoid(s_j))),
        beta = alpha (t (1 - 1/alpha) + 1/alpha) = 1 - t (1 - alpha).

    Where negatives are sampled, positives are a larger part of what the model sees than of the catalogue. So plain binary
    cross-entropy (t = 0) makes the model believe too much in every item with a high score. With t = 1 the sampled loss has
    its minimum where the probabilities are those of the whole catalogue.

    Attributes:
        calibration: t, 0 to 1. The authors use 0.75 and 0.9.

    Raises:
        ValueError: t lies outside 0 to 1.
    """

    calibration: float = 0.75

    def __post_init__(self) -> None:
        if not 0 <= self.calibration <= 1:
            raise ValueError(f"calibration lies between 0 and 1, got {self.calibration}")

    def losses(self, positive_logits: "Tensor", negative_logits: "Tensor", num_items: int) -> "Tensor":
        """Losses, float [b], from logits of the positives [b] and of their negatives [b, R], in a catalogue of N items."""
        from torch.nn.functional import softplus  # imported here, so that the names of methods can be read without it

        num_negatives = negative_logits.shape[1]
        sampled = min(1.0, num_negatives / max(1, num_items - 1))
        beta = 1 - self.calibration * (1 - sampled)
        # -log(sigmoid(s)) is softplus(-s), and -log(1 - sigmoid(s)) is softplus(s).
        return (beta * softplus(-positive_logits) + softplus(negative_logits).sum(1)) / (num_negatives + 1)


GBCE = Recipe.of("gbce", "num_per_positive", proposal="uniform", row_loss=GeneralisedBinaryLoss(), log_q=0.0)
