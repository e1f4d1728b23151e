"""One training step's loss: draw negatives, encode every item once, score, correct, interpolate, sampled softmax.

Negatives shared by the batch (in-batch, pool, cache) are one matrix product; negatives drawn for each positive (by a
proposal, or by ESANS, WWW 2025, arXiv 2502.16077) are scored row by row. All are corrected by one expected count: how often
an item is expected among all draws for that positive, whichever source it came from.

Shape legend: B positives, S shared negatives, R drawn negatives per positive, C clusters, M items per cluster, H hard, N items,
D dimension.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esans_core.interpolation import hard_lambdas, hard_virtual_logits, simple_virtual_logits, simple_weights
from esans_core.negatives import NegativeConfig
from esans_core.proposals import FairProposal, ItemProposal, PopularityProposal, UniformProposal
from esans_core.sampler import SemanticNegatives, SemanticNegativeSampler
from esans_core.shared_softmax import NEVER, shared_log_sum
from esans_core.temperature import AdaptiveTemperature

_WORTH_MERGING = 4  # shared negatives are merged when there are at least this share, 1/4, of the catalogue's items


@dataclass(frozen=True)
class DrawnNegatives:
    """What one step drew; entries that equal their row's positive do not count.

    Attributes:
        shared_S: int64 [S], negatives of the whole batch (cached ones aside).
        copies_S: float32 [S], how often each of them counts; 0 for a draw that found nothing.
        drawn_BR: int64 [B, R], drawn by the proposal.
        semantic_BR: int64 [B, R'], drawn by the semantic-aware sampler: easy, then hard.
        semantic: the same draws by kind, or None.
    """

    shared_S: Tensor
    copies_S: Tensor
    drawn_BR: Tensor
    semantic_BR: Tensor
    semantic: SemanticNegatives | None


class RetrievalObjective(nn.Module):
    """The loss of a batch of (user, positive item) pairs. Its state, where a method has one, is its `state_dict`.

    Args:
        config: which negatives.
        item_frequency: float [N], share of training events of each item (sums to 1).
        temperature: tau; scores are cosines divided by it.
        sampler: the semantic-aware sampler; needed when `config.needs_sampler`.
        item_groups: int64 [N], group of each item; needed by the `fair` proposal.
        num_users: U; needed when `config.adaptive_temperature`.

    Raises:
        ValueError: something that the configuration needs is missing.
    """

    def __init__(
        self,
        config: NegativeConfig,
        item_frequency: Tensor,
        *,
        temperature: float,
        sampler: SemanticNegativeSampler | None = None,
        item_groups: Tensor | None = None,
        num_users: int = 0,
    ) -> None:
        super().__init__()
        if config.needs_sampler and sampler is None:
            raise ValueError("a configuration with semantic negatives or a same-group weight needs a SemanticNegativeSampler")
        if config.adaptive_temperature and not num_users:
            raise ValueError("an adaptive temperature needs num_users")
        self.config, self.temperature, self.sampler = config, temperature, sampler
        self.register_buffer("item_frequency", item_frequency, persistent=False)
        self._uniform = UniformProposal(len(item_frequency), item_frequency.device)
        self.proposal = _proposal(config, item_frequency, item_groups, self._uniform)
        self.adaptive = AdaptiveTemperature(temperature, num_users) if config.adaptive_temperature else None
        self._cache: tuple[Tensor, Tensor] | None = None

    item_frequency: Tensor

    def begin_epoch(self) -> None:
        """Forget cached embeddings, so that an epoch depends on the state before it and its seed alone."""
        self._cache = None

    def end_epoch(self) -> None:
        """Let what adapts from epoch to epoch adapt."""
        if self.adaptive is not None:
            self.adaptive.end_epoch()

    def forward(
        self,
        users_BD: Tensor,
        positives: Tensor,
        encode_items: Callable[[Tensor], Tensor],
        generator: torch.Generator | None = None,
        user_rows: Tensor | None = None,
    ) -> Tensor:
        """Mean loss of a batch.

        Args:
            users_BD: float32 [B, D], unit vectors.
            positives: int64 [B], item rows.
            encode_items: int64 [n] item rows -> float32 [n, D], unit vectors.
            generator: source of randomness on the device of `positives`.
            user_rows: int64 [B], who the users are; needed when the temperature adapts.

        Returns:
            float32 scalar.
        """
        negatives = self.draw(positives, generator)
        (shared_S, copies_S), drawn_BR, semantic = self._merged(negatives), negatives.drawn_BR, negatives.semantic
        wanted = [positives, shared_S, drawn_BR, *((semantic.easy_BCM, semantic.hard_BH) if semantic else ())]
        encoded = self._encoded(torch.cat([items.flatten() for items in wanted]), encode_items)
        # One split, and every part used whole: the gradient of a slice would be a zero-filled copy of what it was cut from.
        parts = encoded.split([items.numel() for items in wanted])
        positives_BD, shared_SD, drawn_BRD, *semantic_D = (
            part.view(*items.shape, encoded.shape[1]) for part, items in zip(parts, wanted, strict=True)
        )
        if self._cache is not None:
            shared_S, shared_SD = torch.cat([shared_S, self._cache[0]]), torch.cat([shared_SD, self._cache[1]])
            copies_S = torch.cat([copies_S, copies_S.new_ones(len(self._cache[0]))])

        users_BD = users_BD / self._temperature(user_rows)
        positive_logits = (users_BD * positives_BD).sum(-1)
        rows = [positive_logits[:, None]]
        if drawn_BR.shape[1]:
            rows.append(self._drawn_logits(users_BD, positive_logits, drawn_BRD, positives, drawn_BR, generator))
        if semantic is not None:
            easy_BCMD, hard_BHD = semantic_D
            rows += self._semantic_logits(
                users_BD, positive_logits, positives_BD, easy_BCMD, hard_BHD, positives, negatives, generator
            )
        log_sum_B = torch.cat(rows, dim=1).logsumexp(1)
        if len(shared_S):
            log_sum_B = torch.logaddexp(log_sum_B, self._shared_log_sum(users_BD, shared_SD, positives, shared_S, copies_S))
        loss_B = log_sum_B - positive_logits
        self._observe(positives, positives_BD, loss_B.detach(), user_rows)
        return loss_B.mean()

    def draw(self, positives: Tensor, generator: torch.Generator | None = None) -> DrawnNegatives:
        """Draw the negatives of a step, without scoring them.

        Args:
            positives: int64 [B], item rows.
            generator: source of randomness on their device.
        """
        config, nothing_BR = self.config, positives[:, None][:, :0]
        semantic = self.sampler.sample(positives, generator) if config.semantic and self.sampler else None
        semantic_BR = torch.cat([semantic.easy_BCM.flatten(1), semantic.hard_BH], dim=1) if semantic else nothing_BR
        shape = (len(positives), config.num_per_positive)
        drawn_BR = self.proposal.draw(shape, generator) if config.num_per_positive else nothing_BR
        return DrawnNegatives(*self._shared(positives, semantic_BR, generator), drawn_BR, semantic_BR, semantic)

    def _shared(self, positives: Tensor, semantic_BR: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Items that are negatives of the whole batch and are encoded in this step, and how often each counts."""
        config = self.config
        if config.all_items:
            return torch.arange(len(self.item_frequency), device=positives.device), torch.ones_like(self.item_frequency)
        shared = [positives] if config.in_batch else []
        if config.num_pool:
            shared.append(self._uniform.draw((config.num_pool,), generator))
        copies = [torch.ones_like(items, dtype=torch.float32) for items in shared]
        if config.share_draws:
            drawn_n, found_n = semantic_BR.flatten(), (semantic_BR != positives[:, None]).flatten()
            if _may_look(positives.device):
                drawn_n, found_n = drawn_n[found_n], found_n[found_n]
            shared.append(drawn_n)
            copies.append(found_n.float())
        return (torch.cat(shared), torch.cat(copies)) if shared else (positives[:0], positives[:0].float())

    def _merged(self, negatives: DrawnNegatives) -> tuple[Tensor, Tensor]:
        """The different items among shared negatives, where many are the same, and how often each counts."""
        shared_S, copies_S, num_items = negatives.shared_S, negatives.copies_S, len(self.item_frequency)
        if self.config.all_items:
            return shared_S, copies_S
        if _may_look(shared_S.device):
            if len(shared_S) * _WORTH_MERGING < num_items:
                return shared_S, copies_S
            items, counts = torch.unique(shared_S, return_counts=True)
            return items, counts.float()
        if len(shared_S) < num_items:
            return shared_S, copies_S
        copies_N = torch.zeros_like(self.item_frequency).index_add_(0, shared_S, copies_S)
        return torch.arange(num_items, device=shared_S.device), copies_N

    def _encoded(self, items_n: Tensor, encode_items: Callable[[Tensor], Tensor]) -> Tensor:
        """Embeddings of items [n], each item encoded once where that can be had without waiting."""
        if _may_look(items_n.device):
            unique, place = torch.unique(items_n, return_inverse=True)
        elif len(items_n) < len(self.item_frequency):
            return encode_items(items_n)
        else:
            unique, place = torch.arange(len(self.item_frequency), device=items_n.device), items_n
        return torch.nn.functional.embedding(place, encode_items(unique))

    def _shared_log_sum(
        self, users_BD: Tensor, shared_SD: Tensor, positives: Tensor, shared_S: Tensor, copies_S: Tensor
    ) -> Tensor:
        """float32 [B]: log of the sum of exp of the corrected logits of the shared negatives, each as often as it was drawn."""
        sampler, log_weight = self.sampler, _log(self.config.same_group_weight)
        common_S, log_copies_S = self._common_counts(positives, shared_S), copies_S.log().clamp_min(NEVER)
        may_look = _may_look(shared_S.device)

        def log_weights(rows: slice) -> Tensor:
            weights = log_copies_S - self._log_counts(common_S, positives[rows], shared_S)
            if log_weight and sampler is not None:
                group_B, group_S = sampler.index.group(positives[rows]), sampler.index.group(shared_S)
                weights = weights + ((group_B[:, None] == group_S) & (group_S >= 0)) * log_weight
            return weights if may_look else weights.masked_fill(positives[rows, None] == shared_S, NEVER)

        return shared_log_sum(users_BD, shared_SD, log_weights, matches(positives, shared_S) if may_look else None)

    def _drawn_logits(
        self,
        users_BD: Tensor,
        positive_logits: Tensor,
        drawn_BRD: Tensor,
        positives: Tensor,
        drawn_BR: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        """Logits of the negatives drawn by the proposal: mixed with the positive, and only the hardest, where asked."""
        logits = torch.einsum("bd,brd->br", users_BD, drawn_BRD)
        if self.config.positive_mixing:
            share = torch.rand(logits.shape, generator=generator, device=logits.device)
            logits = hard_virtual_logits(positive_logits, logits, share)
        log_counts = self._log_counts(self._common_counts(positives, drawn_BR), positives, drawn_BR)
        logits = (logits - log_counts).masked_fill(drawn_BR == positives[:, None], NEVER)
        keep = self.config.num_hardest
        return logits.topk(keep, dim=1, sorted=False).values if 0 < keep < logits.shape[1] else logits

    def _semantic_logits(
        self,
        users_BD: Tensor,
        positive_logits: Tensor,
        positives_BD: Tensor,
        easy_BCMD: Tensor,
        hard_BHD: Tensor,
        positives: Tensor,
        negatives: DrawnNegatives,
        generator: torch.Generator | None,
    ) -> list[Tensor]:
        """Logits of the ESANS draws (unless the batch shares them) and of their virtual negatives."""
        config, draws = self.config, negatives.semantic
        assert draws is not None
        easy_BCM = torch.einsum("bd,bcmd->bcm", users_BD, easy_BCMD)
        hard_BH, similarity_BH = torch.einsum("bqd,bhd->bqh", torch.stack([users_BD, positives_BD], 1), hard_BHD).unbind(1)
        semantic_BR = negatives.semantic_BR
        log_counts = self._log_counts(self._common_counts(positives, semantic_BR), positives, semantic_BR)
        log_weight = _log(config.virtual_weight)
        shape, num_easy = easy_BCM.shape, easy_BCM[0].numel()
        parts = []
        if not config.share_draws:
            logits = torch.cat([easy_BCM.flatten(1), hard_BH], dim=1) - log_counts
            parts.append(logits.masked_fill(semantic_BR == positives[:, None], NEVER))
        if config.simple_interpolation and num_easy:
            weights = simple_weights(shape[:2], shape[2], generator=generator, device=positives.device)
            virtual = simple_virtual_logits(easy_BCM, weights, easy_BCMD if config.normalise_virtual else None)
            if config.log_q:
                virtual = virtual - (weights @ log_counts[:, :num_easy].reshape(shape)[..., None]).squeeze(-1)
            parts.append((virtual.flatten(1) + log_weight).masked_fill(~draws.easy_valid_B[:, None], NEVER))
        if config.hard_interpolation and hard_BH.shape[1]:
            lambdas = hard_lambdas(
                hard_BH.shape, config.lambda_low, config.lambda_high, generator=generator, device=positives.device
            )
            virtual = hard_virtual_logits(
                positive_logits, hard_BH, lambdas, similarity_BH if config.normalise_virtual else None
            )
            if config.log_q:
                virtual = virtual - (1 - lambdas) * log_counts[:, num_easy:]
            parts.append((virtual + log_weight).masked_fill(~draws.hard_valid_B[:, None], NEVER))
        return parts

    def _common_counts(self, positives: Tensor, items: Tensor) -> Tensor:
        """How often each item is expected among the draws that do not depend on which positive of the batch one looks at.

        Returns:
            float32 of the items' shape.
        """
        config = self.config
        counts = torch.full(items.shape, config.num_pool / len(self.item_frequency), device=items.device)
        if not config.log_q:
            return counts
        if config.in_batch:
            counts = counts + self.item_frequency[items] * (len(positives) - 1)
        if self._cache is not None:
            counts = counts + self.item_frequency[items] * len(self._cache[0])
        if config.num_per_positive:
            counts = counts + self.proposal.probability(items) * config.num_per_positive
        if config.share_draws and self.sampler is not None:
            counts = counts + self.sampler.batch_expected_counts(positives, items)
        return counts

    def _log_counts(self, common: Tensor, positives: Tensor, items: Tensor) -> Tensor:
        """Log of how often each item is expected among all draws for each positive, for items [n] or [B, R]; 0 without logQ.

        Returns:
            float32 that broadcasts to [B, n] or [B, R].
        """
        if not self.config.log_q:
            return common.new_zeros((1, 1))
        if self.config.semantic and not self.config.share_draws and self.sampler is not None:
            common = self.sampler.expected_counts(positives, items).add_(common)
        return common.clamp_min(torch.finfo(torch.float32).tiny).log_()

    def _temperature(self, user_rows: Tensor | None) -> Tensor | float:
        if self.adaptive is None:
            return self.temperature
        if user_rows is None:
            raise ValueError("an adaptive temperature needs user_rows")
        return self.adaptive.per_user[user_rows][:, None]

    def _observe(self, positives: Tensor, positives_BD: Tensor, loss_B: Tensor, user_rows: Tensor | None) -> None:
        """Let what learns from step to step learn, and keep what the next step needs. Only while training."""
        if not (self.training and torch.is_grad_enabled()):
            return
        if isinstance(self.proposal, FairProposal):
            self.proposal.observe(positives, loss_B)
        if self.adaptive is not None and user_rows is not None:
            self.adaptive.observe(user_rows, loss_B)
        if self.config.num_cached:
            new = (positives, positives_BD.detach())
            old = self._cache or tuple(part[:0] for part in new)
            items, vectors = (torch.cat(both)[-self.config.num_cached :] for both in zip(old, new, strict=True))
            self._cache = items, vectors


def matches(wanted_B: Tensor, items_S: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs (b, s) with wanted_B[b] == items_S[s], as two int64 tensors of one length."""
    sorted_S, order = items_S.sort()
    first = torch.searchsorted(sorted_S, wanted_B)
    count = torch.searchsorted(sorted_S, wanted_B, right=True) - first
    row = torch.repeat_interleave(count)
    within = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    return row, order[first[row] + within]


def _may_look(device: torch.device) -> bool:
    """Whether the host can use what a tensor holds, such as a number of matches, without waiting for a queue of work."""
    return device.type == "cpu"


def _proposal(config: NegativeConfig, frequency: Tensor, groups: Tensor | None, uniform: UniformProposal) -> ItemProposal:
    match config.proposal:
        case "popularity":
            return PopularityProposal(frequency, config.popularity_exponent)
        case "fair":
            if groups is None:
                raise ValueError("the fair proposal needs item_groups")
            return FairProposal(groups)
    return uniform


def _log(weight: float) -> float:
    return math.log(weight) if weight > 0 else NEVER
