"""In-batch losses of other libraries over given embeddings, users float32 [B, D] and items float32 [B, D] -> scalar."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def multiple_negatives_ranking(scale: float) -> Loss:
    """`MultipleNegativesRankingLoss` of sentence-transformers."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    no_encoder: Any = nn.Identity()  # the embeddings are given, so nothing is encoded
    loss: Any = MultipleNegativesRankingLoss(no_encoder, scale=scale)
    return lambda users, items: loss.compute_loss_from_embeddings([users, items], None)


def ntxent(temperature: float) -> Loss:
    """`NTXentLoss` of pytorch-metric-learning. The items are reference embeddings, so it has one direction like the others."""
    from pytorch_metric_learning.losses import NTXentLoss

    loss = NTXentLoss(temperature=temperature)

    def run(users: Tensor, items: Tensor) -> Tensor:
        labels = torch.arange(len(users))
        return loss(users, labels, ref_emb=items, ref_labels=labels.clone())  # with one tensor for both, no pair is positive

    return run
