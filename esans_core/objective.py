"""One training step's loss: draw negatives, encode every item once, score, correct, interpolate, sampled softmax.

Negatives shared by the batch (in-batch, pool, cache) are one matrix product; negatives drawn for each positive (by a
proposal, or by ESANS, WWW 2025, arXiv 2502.16077) are scored row by row. `esans_core.sources` draws and counts them.

Processes that train together (`esans_core.world`) draw the negatives of the whole batch alike, from equal generators; each
scores its own rows, and each encodes a part of the shared negatives.

Shape legend: B positives, b of them this process's rows (all, where there is one process), S shared negatives, R drawn
negatives per positive, C clusters, M items per cluster, H hard, N items, D dimension.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from esans_core.interpolation import hard_lambdas, hard_virtual_logits, simple_virtual_logits, simple_weights
from esans_core.negatives import NegativeConfig
from esans_core.proposals import FairProposal
from esans_core.sampler import SemanticNegatives, SemanticNegativeSampler
from esans_core.shared_softmax import NEVER, summed_log_partition
from esans_core.sources import DrawnNegatives, NegativeSources
from esans_core.temperature import AdaptiveTemperature
from esans_core.world import World

_CACHE_ITEMS, _CACHE_VECTORS = "cache.items", "cache.vectors"


class RetrievalObjective(nn.Module):
    """The loss of a batch of (user, positive item) pairs. Its state, where a method has one, is its `state_dict`.

    Args:
        config: which negatives.
        item_frequency: float [N], share of each item among training targets (`Loader.target_frequency`).
        temperature: tau; scores are cosines divided by it.
        sampler: the semantic-aware sampler; needed when `config.needs_sampler`.
        item_groups: int64 [N], group of each item; needed by the `fair` proposal.
        num_users: U; needed when `config.adaptive_temperature`.

    Attributes:
        sources: draws the negatives and counts how often each is expected.
        adaptive: the temperature of each user, or None where all users share one.

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
        if config.adaptive_temperature and not num_users:
            raise ValueError("an adaptive temperature needs num_users")
        self.config, self.temperature = config, temperature
        self.sources = NegativeSources(config, item_frequency, sampler, item_groups)
        self.adaptive = AdaptiveTemperature(temperature, num_users) if config.adaptive_temperature else None
        self._cache: tuple[Tensor, Tensor] | None = None

    def begin_epoch(self) -> None:
        """Forget cached embeddings, so that an epoch depends on the state before it and its seed alone."""
        self._cache = None

    def running_state(self) -> dict[str, Tensor]:
        """All that a step in the midst of an epoch depends on: the `state_dict`, and the cached embeddings if there are any."""
        state = dict(self.state_dict())
        if self._cache is not None:
            state[_CACHE_ITEMS], state[_CACHE_VECTORS] = self._cache
        return state

    def load_running_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `running_state` gave."""
        rest = {name: value for name, value in state.items() if name not in (_CACHE_ITEMS, _CACHE_VECTORS)}
        self.load_state_dict(rest)
        self._cache = (state[_CACHE_ITEMS], state[_CACHE_VECTORS]) if len(rest) < len(state) else None

    def end_epoch(self) -> None:
        """Let what adapts from epoch to epoch adapt."""
        if self.adaptive is not None:
            self.adaptive.end_epoch()

    def forward(
        self,
        users_bD: Tensor,
        positives: Tensor,
        encode_items: Callable[[Tensor], Tensor],
        generator: torch.Generator | None = None,
        user_rows: Tensor | None = None,
        world: World = World(),  # noqa: B008  (immutable)
        batch_size: int | None = None,
    ) -> Tensor:
        """Mean loss of a batch; of several processes each gets its share, and the shares add up to the mean.

        Under autocast the towers run in its type, and under bfloat16 so does the product of users and shared negatives; what is
        drawn, counted and summed stays in float32.

        Args:
            users_bD: float32 [b, D], unit vectors.
            positives: int64 [b], item rows.
            encode_items: int64 [n] item rows -> float32 [n, D], unit vectors.
            generator: source of randomness on the device of `positives`, in the same state in all processes.
            user_rows: int64 [b], who the users are; needed when the temperature adapts.
            world: the processes that share the batch.
            batch_size: B; needed when there are several.

        Returns:
            float32 scalar.
        """
        kind = positives.device.type
        mixed, narrow = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)

        def encode(items_n: Tensor) -> Tensor:
            with torch.autocast(kind, narrow, enabled=mixed):
                return encode_items(items_n).float()

        product = narrow if mixed and narrow == torch.bfloat16 else torch.float32
        with torch.autocast(kind, enabled=False):
            return self._loss(
                users_bD.float(), positives, encode, generator, user_rows, world, batch_size or len(positives), product
            )

    def _loss(
        self,
        users_bD: Tensor,
        positives: Tensor,
        encode_items: Callable[[Tensor], Tensor],
        generator: torch.Generator | None,
        user_rows: Tensor | None,
        world: World,
        batch_size: int,
        product: torch.dtype,
    ) -> Tensor:
        mine, everyone = world.rows(batch_size), world.gather(positives, batch_size)
        negatives = self.sources.draw(everyone, generator)
        mixing = self._mixing(negatives, mine, generator)
        (shared_S, copies_S), drawn_bR = self.sources.merged(negatives), negatives.drawn_BR[mine]
        semantic = negatives.semantic.rows(mine) if negatives.semantic else None
        part_S = shared_S[world.rows(len(shared_S))]
        wanted = [positives, part_S, drawn_bR, *((semantic.easy_BCM, semantic.hard_BH) if semantic else ())]
        encoded = self._encoded(torch.cat([items.flatten() for items in wanted]), encode_items)
        # One split, and every part used whole: the gradient of a slice would be a zero-filled copy of what it was cut from.
        parts = encoded.split([items.numel() for items in wanted])
        positives_bD, part_SD, *others_D = (
            part.view(*items.shape, encoded.shape[1]) for part, items in zip(parts, wanted, strict=True)
        )
        vectors = (positives_bD, world.gather(part_SD, len(shared_S)), *others_D)
        step = _Step(everyone, mine, positives, negatives, mixing, semantic, shared_S, copies_S, 0, product)
        unit_users_bD, users_bD = users_bD, users_bD / self._temperature(user_rows)
        if self._cache is None:
            loss, loss_b = self._softmax(step, vectors, users_bD)
        else:
            # A cached item cannot be pushed away. If this step's negatives were pushed with their share of a softmax over both,
            # and positives pulled in full, all items would meet in one point. So items learn from this step's softmax alone.
            own, _ = self._softmax(step, vectors, users_bD.detach())
            loss, loss_b = self._softmax(*self._with_cache(step, vectors), users_bD)
            loss = loss + own - own.detach()
        if self.adaptive is not None:  # learns from losses at temperature 1, which do not depend on what it has set
            with torch.no_grad():
                _, loss_b = self._softmax(step, vectors, unit_users_bD)
        self._observe(everyone, positives_bD, loss_b.detach(), user_rows, world)
        return loss / batch_size

    def _with_cache(self, step: "_Step", vectors: Sequence[Tensor]) -> tuple["_Step", list[Tensor]]:
        """The step and its vectors, through which no gradient flows, with the cached items behind the shared negatives."""
        assert self._cache is not None
        items, cached = self._cache
        positives_bD, shared_SD, *others_D = (vector.detach() for vector in vectors)
        shared_S, copies_S = torch.cat([step.shared_S, items]), torch.cat([step.copies_S, step.copies_S.new_ones(len(items))])
        wider = replace(step, shared_S=shared_S, copies_S=copies_S, num_cached=len(items))
        return wider, [positives_bD, torch.cat([shared_SD, cached]), *others_D]

    def _softmax(self, step: "_Step", vectors: Sequence[Tensor], users_bD: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of this process's rows: their sum, and float32 [b].

        Args:
            step: what was drawn.
            vectors: of the positives [b, D], of the shared negatives [S, D], of those drawn for each positive [b, R, D]; and of
                the semantic draws, if there are any, the easy [b, C, M, D] and the hard [b, H, D].
            users_bD: float32 [b, D], divided by the temperature.
        """
        positives_bD, shared_SD, drawn_bRD, *semantic_D = vectors
        positive_logits = (users_bD * positives_bD).sum(-1)
        rows = [positive_logits[:, None]]
        if drawn_bRD.shape[1]:
            rows.append(self._drawn_logits(step, users_bD, positive_logits, drawn_bRD))
        if step.semantic is not None:
            rows += self._semantic_logits(step, step.semantic, users_bD, positive_logits, positives_bD, *semantic_D)
        log_sum_b = torch.cat(rows, dim=1).logsumexp(1)
        log_sum = log_sum_b.sum()
        if len(shared_SD):
            log_sum, log_sum_b = self._with_shared(step, log_sum_b, users_bD, shared_SD)
        return log_sum - positive_logits.sum(), log_sum_b - positive_logits

    def _mixing(self, negatives: DrawnNegatives, mine: slice, generator: torch.Generator | None) -> "_Mixing":
        """Draw what the step mixes items by: for the whole batch, so that all processes draw alike."""
        config, drawn_BR, semantic = self.config, negatives.drawn_BR, negatives.semantic
        device = drawn_BR.device
        positive_BR = simple_BCVM = hard_BH = None
        if config.positive_mixing and drawn_BR.shape[1]:
            # One share for all candidates of a positive: were each to have its own, the largest shares would be chosen for the
            # hardest, and they are next to the positive itself.
            shares_B1 = torch.rand((len(drawn_BR), 1), generator=generator, device=device)
            positive_BR = shares_B1.expand(drawn_BR.shape)
        if semantic is not None and config.simple_interpolation and semantic.easy_BCM.shape[1]:
            *leading, items = semantic.easy_BCM.shape
            simple_BCVM = simple_weights(tuple(leading), items, generator=generator, device=device)
        if semantic is not None and config.hard_interpolation and semantic.hard_BH.shape[1]:
            ends = config.lambda_low, config.lambda_high
            hard_BH = hard_lambdas(tuple(semantic.hard_BH.shape), *ends, generator=generator, device=device)
        return _Mixing(*[None if drawn is None else drawn[mine] for drawn in (positive_BR, simple_BCVM, hard_BH)])

    def _encoded(self, items_n: Tensor, encode_items: Callable[[Tensor], Tensor]) -> Tensor:
        """Embeddings of items [n], each item encoded once where that can be had without waiting."""
        if self.sources.may_look:
            unique, place = torch.unique(items_n, return_inverse=True)
        elif len(items_n) < self.sources.num_items:
            return encode_items(items_n)
        else:
            unique, place = torch.arange(self.sources.num_items, device=items_n.device), items_n
        return torch.nn.functional.embedding(place, encode_items(unique))

    def _with_shared(self, step: "_Step", others_b: Tensor, users_bD: Tensor, shared_SD: Tensor) -> tuple[Tensor, Tensor]:
        """Sum and float32 [b] of the log-partitions with the shared negatives, each corrected and as often as it was drawn."""
        sources, log_weight = self.sources, _log(self.config.same_group_weight)
        positives, shared_S = step.positives, step.shared_S
        common, log_copies_S = self._common_counts(step, shared_S), step.copies_S.log().clamp_min(NEVER)

        def log_weights(rows: slice) -> Tensor:
            weights = log_copies_S - sources.log_counts(common, positives[rows], shared_S)
            if log_weight and sources.sampler is not None:
                group_b, group_S = sources.sampler.index.group(positives[rows]), sources.sampler.index.group(shared_S)
                weights = weights + ((group_b[:, None] == group_S) & (group_S >= 0)) * log_weight
            return weights if sources.may_look else weights.masked_fill(positives[rows, None] == shared_S, NEVER)

        excluded = matches(positives, shared_S) if sources.may_look else None
        return summed_log_partition(others_b, users_bD, shared_SD, log_weights, excluded, step.product)

    def _drawn_logits(self, step: "_Step", users_bD: Tensor, positive_logits: Tensor, drawn_bRD: Tensor) -> Tensor:
        """Logits of the negatives drawn by the proposal: mixed with the positive, and only the hardest, where asked."""
        drawn_bR = step.negatives.drawn_BR[step.mine]
        logits = torch.einsum("bd,brd->br", users_bD, drawn_bRD)
        if step.mixing.positive_bR is not None:
            logits = hard_virtual_logits(positive_logits, logits, step.mixing.positive_bR)
        log_counts = self.sources.log_counts(self._common_counts(step, drawn_bR), step.positives, drawn_bR)
        logits = (logits - log_counts).masked_fill(drawn_bR == step.positives[:, None], NEVER)
        keep = self.config.num_hardest
        return logits.topk(keep, dim=1, sorted=False).values if 0 < keep < logits.shape[1] else logits

    def _semantic_logits(
        self,
        step: "_Step",
        draws: SemanticNegatives,
        users_bD: Tensor,
        positive_logits: Tensor,
        positives_bD: Tensor,
        easy_bCMD: Tensor,
        hard_bHD: Tensor,
    ) -> list[Tensor]:
        """Logits of the ESANS draws (unless the batch shares them) and of their virtual negatives."""
        config, positives, weights, lambdas = self.config, step.positives, step.mixing.simple_bCVM, step.mixing.hard_bH
        easy_bCM = torch.einsum("bd,bcmd->bcm", users_bD, easy_bCMD)
        hard_bH, similarity_bH = torch.einsum("bqd,bhd->bqh", torch.stack([users_bD, positives_bD], 1), hard_bHD).unbind(1)
        semantic_bR = step.negatives.semantic_BR[step.mine]
        log_counts = self.sources.log_counts(self._common_counts(step, semantic_bR), positives, semantic_bR)
        log_weight = _log(config.virtual_weight)
        shape, num_easy = easy_bCM.shape, easy_bCM.shape[1] * easy_bCM.shape[2]
        parts = []
        if not config.share_draws:
            logits = torch.cat([easy_bCM.flatten(1), hard_bH], dim=1) - log_counts
            parts.append(logits.masked_fill(semantic_bR == positives[:, None], NEVER))
        if weights is not None:
            virtual = simple_virtual_logits(easy_bCM, weights, easy_bCMD if config.normalise_virtual else None)
            if config.log_q:
                virtual = virtual - (weights @ log_counts[:, :num_easy].reshape(shape)[..., None]).squeeze(-1)
            parts.append((virtual.flatten(1) + log_weight).masked_fill(~draws.easy_valid_B[:, None], NEVER))
        if lambdas is not None:
            virtual = hard_virtual_logits(
                positive_logits, hard_bH, lambdas, similarity_bH if config.normalise_virtual else None
            )
            if config.log_q:
                virtual = virtual - (1 - lambdas) * log_counts[:, num_easy:]
            parts.append((virtual + log_weight).masked_fill(~draws.hard_valid_B[:, None], NEVER))
        return parts

    def _common_counts(self, step: "_Step", items: Tensor) -> tuple[Tensor, Tensor]:
        return self.sources.common_counts(step.everyone, items, step.num_cached)

    def _temperature(self, user_rows: Tensor | None) -> Tensor | float:
        if self.adaptive is None:
            return self.temperature
        if user_rows is None:
            raise ValueError("an adaptive temperature needs user_rows")
        return self.adaptive.per_user[user_rows][:, None]

    def _observe(self, everyone: Tensor, positives_bD: Tensor, loss_b: Tensor, user_rows: Tensor | None, world: World) -> None:
        """Let what learns from step to step learn, and keep what the next step needs. Only while training."""
        if not (self.training and torch.is_grad_enabled()):
            return
        count = len(everyone)
        if isinstance(self.sources.proposal, FairProposal):
            self.sources.proposal.observe(everyone, world.gather(loss_b, count))
        if self.adaptive is not None and user_rows is not None:
            self.adaptive.observe(world.gather(user_rows, count), world.gather(loss_b, count))
        if self.config.num_cached:
            new = (everyone, world.gather(positives_bD.detach(), count))
            old = self._cache or tuple(part[:0] for part in new)
            items, vectors = (torch.cat(both)[-self.config.num_cached :] for both in zip(old, new, strict=True))
            self._cache = items, vectors


@dataclass(frozen=True)
class _Mixing:
    """The random shares by which a step mixes items, of this process's rows; None where nothing is mixed.

    Attributes:
        positive_bR: float32 [b, R], of the positive in each negative that was drawn.
        simple_bCVM: float32 [b, C, V, M], weights of the V virtual negatives of each easy cluster.
        hard_bH: float32 [b, H], lambda of each hard virtual negative.
    """

    positive_bR: Tensor | None
    simple_bCVM: Tensor | None
    hard_bH: Tensor | None


@dataclass(frozen=True)
class _Step:
    """What the parts of a step's loss have in common.

    Attributes:
        everyone: int64 [B], positives of the whole batch.
        mine: this process's rows of it.
        positives: int64 [b], those rows.
        negatives: drawn for the whole batch.
        mixing: by what shares they are mixed.
        semantic: this process's rows of the semantic draws.
        shared_S: int64 [S], the shared negatives, each item once where that is worth it.
        copies_S: float32 [S], how often each of them counts.
        num_cached: how many of them, the last ones, are of earlier steps.
        product: type of the product of users and shared negatives.
    """

    everyone: Tensor
    mine: slice
    positives: Tensor
    negatives: DrawnNegatives
    mixing: _Mixing
    semantic: SemanticNegatives | None
    shared_S: Tensor
    copies_S: Tensor
    num_cached: int
    product: torch.dtype


def matches(wanted_B: Tensor, items_S: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs (b, s) with wanted_B[b] == items_S[s], as two int64 tensors of one length."""
    sorted_S, order = items_S.sort()
    first = torch.searchsorted(sorted_S, wanted_B)
    count = torch.searchsorted(sorted_S, wanted_B, right=True) - first
    row = torch.repeat_interleave(count)
    within = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    return row, order[first[row] + within]


def _log(weight: float) -> float:
    return math.log(weight) if weight > 0 else NEVER
