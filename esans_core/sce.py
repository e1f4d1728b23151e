"""SCE: cross-entropy inside random buckets of users and of the items that lie nearest to them.

Mezentsev, Gusak, Oseledets and Frolov, "Scalable Cross-Entropy Loss for Sequential Recommendations with Large Item Catalogs",
RecSys 2024, arXiv 2409.18721. It was written from the authors' published code (github.com/AIRI-Institute/Scalable-SASRec), as
the paper's full text was not at hand.

Shape legend: B positives, N items, D dimension, K buckets, k of them this process's, X users of a bucket, Y items of a bucket.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esans_core.recipes import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from esans_core.unscored_step import UnscoredStep

_PRODUCTS = 1 << 22  # products of centres and items that are held at a time: 16 MB


@dataclass(frozen=True)
class ScalableCrossEntropy:
    """Cross-entropy of users against the items of their buckets alone. A `StepLoss`.

    Each step draws K random bucket centres. A bucket holds the X users and the Y items of the batch and the catalogue whose
    product with its centre is largest. In a bucket, each of its users has the softmax loss of the own positive against the
    bucket's items. A user in several buckets counts with the largest of these losses, and the loss of the batch is the mean
    over the users that are in any bucket, by the weights of their events: a user in none has no loss in this step.

    The centres lie where the random numbers put them, so users and items of a bucket point in the same direction, and the
    negatives are hard. Nothing corrects for this choice, so it is no unbiased estimate of the full softmax.

    What it costs: no tensor has B x N numbers. The logits are K X Y, 1 M numbers at B = 1,024 with the defaults, whatever N
    is. But to find the items of the buckets, each step encodes the whole catalogue without gradient: N vectors of D numbers
    (256 MB for a million items at D = 64) and N passes through the item tower, where sampled methods encode some thousands.
    For an item tower that is a table of vectors, as in the paper, this costs next to nothing. Then the items of the buckets,
    at most K Y, are encoded again with gradient. If the tower drops parts at random, both passes drop other parts.

    Attributes:
        bucket_factor: there are bucket_factor * sqrt(B) buckets, with as many users each. The authors use 2.
        bucket_items: Y. The authors tried 64 to 4,096.
        mix: draw each centre as a random combination of the users of the batch (the paper's Mix operation), and not
            anywhere. The authors' settings have it off.

    Raises:
        ValueError: a size is not positive.
    """

    bucket_factor: float = 2.0
    bucket_items: int = 256
    mix: bool = False

    def __post_init__(self) -> None:
        if self.bucket_factor <= 0 or self.bucket_items < 1:
            raise ValueError(f"buckets need users and items, got {self}")

    def mean_loss(self, step: "UnscoredStep") -> "Tensor":
        """See `StepLoss`."""
        import torch  # imported here, so that the names of methods can be read without it

        from esans_core.shared_softmax import NEVER

        users_BD, positives_B = step.of_batch(step.users_bD), step.of_batch(step.positives_b)
        count = max(1, min(step.batch_size, int(self.bucket_factor * math.sqrt(step.batch_size))))
        with torch.no_grad():
            centres_KD = self._centres(users_BD, count, step.generator)
            members_KX = (centres_KD @ users_BD.T).topk(count).indices
            items_KY = _nearest(centres_KD, step.catalogue_without_gradient(), self.bucket_items)
        mine = step.world.rows(count)  # each process has some of the buckets
        members_kX, items_kY = members_KX[mine], items_KY[mine]
        positives_bD, items_kYD = step.encoded(step.positives_b, items_kY)
        positive_kX = step.of_batch((step.users_bD * positives_bD).sum(-1))[members_kX]
        logits_kXY = torch.nn.functional.embedding(members_kX, users_BD) @ items_kYD.transpose(1, 2)
        is_positive_kXY = positives_B[members_kX][..., None] == items_kY[:, None]
        negatives_kX = logits_kXY.masked_fill(is_positive_kXY, NEVER).logsumexp(-1)
        loss_KX = step.world.gather(torch.logaddexp(negatives_kX, positive_kX) - positive_kX, step.world.counts(count))
        places = members_KX.flatten()
        # No loss is below zero, so the zeros that this starts from change no maximum.
        loss_B = loss_KX.new_zeros(step.batch_size).scatter_reduce(0, places, loss_KX.flatten(), "amax")
        seen_B = loss_B.new_zeros(step.batch_size).index_fill(0, places, 1.0)
        if step.weights_b is not None:
            weights_B = step.of_batch(step.weights_b)
            loss_B, seen_B = loss_B * weights_B, seen_B * weights_B
        return loss_B[step.world.own(step.counts)].sum() / seen_B.sum()

    def _centres(self, users_BD: "Tensor", count: int, generator: "torch.Generator | None") -> "Tensor":
        """float32 [K, D]. Their length does not matter, because it changes no order."""
        import torch

        over = len(users_BD) if self.mix else users_BD.shape[1]
        random = torch.randn(count, over, generator=generator, device=users_BD.device)
        return random @ users_BD if self.mix else random


def _nearest(centres_KD: "Tensor", items_ND: "Tensor", count: int) -> "Tensor":
    """int64 [K, Y], the items with the largest products, for each centre; of the catalogue, a block is compared at a time."""
    import torch

    size = max(count, _PRODUCTS // len(centres_KD))
    values, found = centres_KD[:, :0], torch.empty(len(centres_KD), 0, dtype=torch.long, device=items_ND.device)
    for start in range(0, len(items_ND), size):
        products = centres_KD @ items_ND[start : start + size].T
        best = products.topk(min(count, products.shape[1]))
        values, found = torch.cat([values, best.values], 1), torch.cat([found, best.indices + start], 1)
        values, kept = values.topk(min(count, values.shape[1]))
        found = found.gather(1, kept)
    return found


SCE = Recipe.of("sce", step_loss=ScalableCrossEntropy(), log_q=0.0)
