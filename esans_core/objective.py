"""One training step's loss: draw negatives, encode every item once, score, correct, interpolate, sampled softmax.

The shared pool is that of debiased mixed negatives (in-batch + uniform, Yang et al. 2020, doi:10.1145/3366424.3386195);
the ESANS draws and their virtual negatives (WWW 2025, arXiv 2502.16077) come on top of it.

Shape legend: B positives, S shared pool, R draws per row, C clusters, M items per cluster, H hard, D dimension.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from esans_core.interpolation import hard_lambdas, hard_virtual_logits, simple_virtual_logits, simple_weights
from esans_core.losses import sampled_softmax_loss
from esans_core.sampler import SemanticNegativeSampler

Method = Literal["esans", "esans_paper", "debiased_mns", "uniform"]


@dataclass(frozen=True)
class NegativeConfig:
    """Which negatives a step uses.

    Attributes:
        in_batch: the batch's other positives are negatives.
        num_pool: uniform negatives shared by the batch.
        num_uniform: uniform negatives drawn for each positive.
        semantic: easy and hard draws of the semantic-aware sampler.
        simple_interpolation: virtual negatives inside each easy cluster.
        hard_interpolation: virtual negatives between the positive and each hard negative.
        lambda_low: lower end of the range lambda is drawn from.
        lambda_high: upper end.
        virtual_weight: weight of a virtual negative in the softmax, relative to the real ones it is made of.
        normalise_virtual: scale virtual items to unit length, as the towers do with real ones.
        log_q: correct each logit by the log of the item's expected count among the draws.
    """

    in_batch: bool = True
    num_pool: int = 1024
    num_uniform: int = 0
    semantic: bool = True
    simple_interpolation: bool = True
    hard_interpolation: bool = True
    lambda_low: float = -0.3
    lambda_high: float = 0.1
    virtual_weight: float = 0.02
    normalise_virtual: bool = True
    log_q: bool = True

    @classmethod
    def for_method(cls, method: Method, **changes: Any) -> "NegativeConfig":
        """The configuration of a named method; `changes` are the fields above, of which a method may fix some.

        `esans`: draws and interpolation on top of the debiased pool. `esans_paper`: the draws and interpolation alone,
        uncorrected and at full weight. `debiased_mns`: the pool alone. `uniform`: uniform negatives per positive alone.

        Raises:
            ValueError: the method is unknown.
        """
        config = replace(cls(), **changes)
        match method:
            case "esans":
                return replace(config, num_uniform=0)
            case "esans_paper":
                return replace(config, in_batch=False, num_pool=0, num_uniform=0, log_q=False, virtual_weight=1.0)
            case "debiased_mns":
                return replace(config, num_uniform=0, semantic=False)
            case "uniform":
                return replace(config, in_batch=False, num_pool=0, semantic=False)
        raise ValueError(f"unknown method {method!r}: choose esans, esans_paper, debiased_mns or uniform")


class RetrievalObjective:
    """The loss of a batch of (user, positive item) pairs.

    Args:
        config: which negatives.
        item_frequency: float [N], share of training events of each item (sums to 1), for the in-batch correction.
        temperature: tau; scores are cosines divided by it.
        sampler: the semantic-aware sampler; needed when `config.semantic`.

    Raises:
        ValueError: the sampler is missing, or no negatives are configured.
    """

    def __init__(
        self,
        config: NegativeConfig,
        item_frequency: Tensor,
        *,
        temperature: float,
        sampler: SemanticNegativeSampler | None = None,
    ) -> None:
        if config.semantic and sampler is None:
            raise ValueError("a configuration with semantic negatives needs a SemanticNegativeSampler")
        if not (config.in_batch or config.num_pool or config.num_uniform or config.semantic):
            raise ValueError("the configuration has no negatives at all")
        self.config, self.temperature = config, temperature
        self.item_frequency = item_frequency
        self.sampler = sampler if config.semantic else None

    def __call__(
        self,
        users_BD: Tensor,
        positives: Tensor,
        encode_items: Callable[[Tensor], Tensor],
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Mean loss of a batch.

        Args:
            users_BD: float32 [B, D], unit vectors.
            positives: int64 [B], item rows.
            encode_items: int64 [n] item rows -> float32 [n, D], unit vectors.
            generator: source of randomness on the device of `positives`.

        Returns:
            float32 scalar.
        """
        config, B = self.config, len(positives)
        shared = [positives] if config.in_batch else []
        if config.num_pool:
            shared.append(self._uniform((config.num_pool,), generator, positives.device))
        shared_S = torch.cat(shared) if shared else positives[:0]
        rows = [self._uniform((B, config.num_uniform), generator, positives.device)] if config.num_uniform else []
        draws = self.sampler.sample(positives, generator) if self.sampler else None
        if draws is not None:
            rows += [draws.easy_BCM.flatten(1), draws.hard_BH]
        rows_BR = torch.cat(rows, dim=1) if rows else positives[:, None][:, :0]

        wanted = torch.cat([positives, shared_S, rows_BR.flatten()])
        unique, place = torch.unique(wanted, return_inverse=True)
        encoded = torch.nn.functional.embedding(place, encode_items(unique))
        positives_BD, shared_SD, rows_D = encoded.split([B, len(shared_S), rows_BR.numel()])
        rows_BRD = rows_D.view(*rows_BR.shape, users_BD.shape[1])

        users_BD = users_BD / self.temperature
        positive_logits = (users_BD * positives_BD).sum(-1)
        row_logits = torch.einsum("bd,brd->br", users_BD, rows_BRD)
        logits = [users_BD @ shared_SD.T, row_logits]
        valid = [shared_S[None, :] != positives[:, None], rows_BR != positives[:, None]]
        log_counts = [self._log_expected_counts(positives, shared_S), self._log_expected_counts(positives, rows_BR)]
        if draws is not None:
            assert self.sampler is not None
            first = config.num_uniform
            num_easy = draws.easy_BCM[0].numel()
            easy, hard = slice(first, first + num_easy), slice(first + num_easy, None)
            if config.simple_interpolation and num_easy:
                shape = draws.easy_BCM.shape
                weights = simple_weights(shape[:2], shape[2], generator=generator, device=positives.device)
                embeddings = rows_BRD[:, easy].unflatten(1, shape[1:]) if config.normalise_virtual else None
                virtual = simple_virtual_logits(row_logits[:, easy].view(shape), weights, embeddings)
                counts = (weights @ log_counts[1][:, easy].view(shape)[..., None]).squeeze(-1)
                logits.append(virtual.flatten(1))
                log_counts.append(counts.flatten(1) - _log_weight(config.virtual_weight))
                valid.append(draws.easy_valid_B[:, None].expand(B, virtual[0].numel()))
            if config.hard_interpolation and draws.hard_BH.shape[1]:
                lambdas = hard_lambdas(
                    draws.hard_BH.shape, config.lambda_low, config.lambda_high, generator=generator, device=positives.device
                )
                similarity = torch.einsum("bd,bhd->bh", positives_BD, rows_BRD[:, hard]) if config.normalise_virtual else None
                logits.append(hard_virtual_logits(positive_logits, row_logits[:, hard], lambdas, similarity))
                log_counts.append((1 - lambdas) * log_counts[1][:, hard] - _log_weight(config.virtual_weight))
                valid.append(draws.hard_valid_B[:, None].expand_as(lambdas))
        return sampled_softmax_loss(
            positive_logits,
            torch.cat(logits, dim=1),
            log_expected_counts=torch.cat(log_counts, dim=1),
            valid=torch.cat(valid, dim=1),
        )

    def _log_expected_counts(self, positives: Tensor, items: Tensor) -> Tensor:
        """float32 [B, n]: log of how often each item is expected among all draws for each positive; 0 without logQ."""
        config, B, N = self.config, len(positives), len(self.item_frequency)
        if not config.log_q:
            return torch.zeros(B, items.shape[-1], device=items.device)
        counts = (config.num_pool + config.num_uniform) / N + self.item_frequency[items] * ((B - 1) * config.in_batch)
        if self.sampler is not None:
            counts = counts + self.sampler.expected_counts(positives, items)
        elif items.dim() == 1:
            counts = counts.expand(B, -1)
        return counts.clamp_min(torch.finfo(torch.float32).tiny).log()

    def _uniform(self, shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
        return torch.randint(len(self.item_frequency), shape, generator=generator, device=device)


def _log_weight(weight: float) -> float:
    return math.log(weight) if weight > 0 else -math.inf
