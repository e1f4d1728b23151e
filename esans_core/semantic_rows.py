"""The ESANS draws of each positive in the loss, and their virtual negatives (WWW 2025, arXiv 2502.16077, EDIS).

Shape legend: B positives of the batch, b this process's rows of it, C clusters, M items of each, V virtual negatives of each,
H hard negatives, R = C M + H.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esans_core.interpolation import hard_lambdas, hard_virtual_logits, simple_virtual_logits, simple_weights
from esans_core.negatives import NegativeConfig
from esans_core.rows import Positives
from esans_core.semantic_negatives import SemanticNegatives
from esans_core.shared_softmax import NEVER


@dataclass(frozen=True)
class SemanticRows:
    """Draws of the semantic-aware sampler (unless the batch shares them) and their virtual negatives. A `Rows`.

    Attributes:
        config: which virtual negatives there are, and their weight.
        draws: the draws.
        weights_BCVM: float32, weights of the virtual negatives of each easy cluster.
        lambdas_BH: float32, lambdas of the hard virtual negatives.
    """

    config: NegativeConfig
    draws: SemanticNegatives
    weights_BCVM: Tensor | None = None
    lambdas_BH: Tensor | None = None

    @property
    def items_BR(self) -> Tensor:
        """See `Rows`."""
        return self.draws.items

    @property
    def wanted(self) -> tuple[Tensor, ...]:
        """See `Rows`."""
        return self.draws.easy_BCM, self.draws.hard_BH

    def mix(self, generator: torch.Generator | None) -> "SemanticRows":
        """See `Rows`."""
        config, device = self.config, self.items_BR.device
        weights_BCVM = lambdas_BH = None
        if config.simple_interpolation and self.draws.easy_BCM.shape[1]:
            *leading, items = self.draws.easy_BCM.shape
            weights_BCVM = simple_weights(tuple(leading), items, generator=generator, device=device)
        if config.hard_interpolation and self.draws.hard_BH.shape[1]:
            ends = config.lambda_low, config.lambda_high
            lambdas_BH = hard_lambdas(tuple(self.draws.hard_BH.shape), *ends, generator=generator, device=device)
        return replace(self, weights_BCVM=weights_BCVM, lambdas_BH=lambdas_BH)

    def of(self, mine: slice) -> "SemanticRows":
        """See `Rows`."""
        weights, lambdas = (None if drawn is None else drawn[mine] for drawn in (self.weights_BCVM, self.lambdas_BH))
        return replace(self, draws=self.draws.rows(mine), weights_BCVM=weights, lambdas_BH=lambdas)

    def logits(self, at: Positives, vectors: Sequence[Tensor], log_counts: Tensor) -> list[Tensor]:
        """See `Rows`."""
        config, weights, lambdas, draws = self.config, self.weights_BCVM, self.lambdas_BH, self.draws
        easy_bCMD, hard_bHD = vectors
        easy_bCM = torch.einsum("bd,bcmd->bcm", at.users_bD, easy_bCMD)
        both = torch.stack([at.users_bD, at.vectors_bD], 1)
        hard_bH, similarity_bH = torch.einsum("bqd,bhd->bqh", both, hard_bHD).unbind(1)
        log_weight = math.log(config.virtual_weight) if config.virtual_weight > 0 else NEVER
        parts = []
        if not config.share_draws:
            logits = torch.cat([easy_bCM.flatten(1), hard_bH], dim=1) - log_counts
            parts.append(logits.masked_fill(self.items_BR == at.items_b[:, None], NEVER))
        if weights is not None:
            virtual = simple_virtual_logits(easy_bCM, weights, easy_bCMD if config.normalise_virtual else None)
            if config.log_q:
                virtual = virtual - (weights @ draws.easy(log_counts)[..., None]).squeeze(-1)
            parts.append((virtual.flatten(1) + log_weight).masked_fill(~draws.easy_valid_B[:, None], NEVER))
        if lambdas is not None:
            virtual = hard_virtual_logits(at.logits_b, hard_bH, lambdas, similarity_bH if config.normalise_virtual else None)
            if config.log_q:
                virtual = virtual - (1 - lambdas) * draws.hard(log_counts)
            parts.append((virtual + log_weight).masked_fill(~draws.hard_valid_B[:, None], NEVER))
        return parts
