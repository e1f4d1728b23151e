"""One training step's loss: draw negatives, encode every item once, score, correct, sampled softmax.

Negatives that the batch shares take one matrix product (`esans_core.shared_softmax`); negatives drawn for each positive are
scored row by row (`esans_core.rows`). The sources decide which ones there are, and how often each is expected
(`esans_core.negative_sources`).

Processes that train together (`esans_core.world`) draw the same negatives for the whole batch, from equal generators. Each
process scores its own rows and encodes a part of the shared negatives.

Shape legend: B positives, b of them this process's rows (all B if there is one process), S shared negatives, R negatives for
each positive, N items, D dimension.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from esans_core.cache import EmbeddingCache
from esans_core.negative_sources import Expected, NegativeSources
from esans_core.negatives import NegativeConfig
from esans_core.parts import Catalogue, Part, StepOutcome
from esans_core.rows import Positives, Rows
from esans_core.sampler import SemanticNegativeSampler
from esans_core.shared_softmax import NEVER, matches, summed_log_partition
from esans_core.temperature import UserTemperature
from esans_core.world import World


@dataclass(frozen=True)
class BatchPart:
    """The rows of a batch that a process has.

    Attributes:
        user_rows: int64 [b], rows of the users; needed when the temperature adapts.
        world: the processes that share the batch.
        batch_size: B, rows of all processes; needed when there are several.
    """

    user_rows: Tensor | None = None
    world: World = World()
    batch_size: int | None = None


_ALONE = BatchPart()


class RetrievalObjective(nn.Module):
    """The loss of a batch of (user, positive item) pairs. If a method has a state, it is in the `state_dict`.

    Args:
        config: which negatives are used.
        item_frequency: float [N], share of each item among training targets (`Loader.target_frequency`).
        temperature: tau; scores are cosines divided by it.
        sampler: the semantic-aware sampler; needed when `config.needs_sampler`.
        item_groups: int64 [N], group of each item; needed by the `fair` proposal.
        num_users: U; needed when `config.adaptive_temperature`.

    Attributes:
        sources: draws the negatives and counts how often each is expected.
        adaptive: the temperature of each user, or None if all users share one.
        cache: negatives of earlier steps, or None.

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
        catalogue = Catalogue(item_frequency, sampler, item_groups, num_users)
        self.config, self.temperature = config, temperature
        self.sources = NegativeSources(config, catalogue)
        self.cache = EmbeddingCache(config.num_cached, item_frequency) if config.num_cached else None
        self.adaptive = UserTemperature(temperature, num_users) if config.adaptive_temperature else None
        self._group_index = sampler.index if sampler is not None and config.same_group_weight != 1 else None

    def begin_epoch(self) -> None:
        """Tell every part that an epoch begins."""
        for part in self._parts():
            part.begin_epoch()

    def end_epoch(self) -> None:
        """Tell every part that an epoch ends, so that it can adapt."""
        for part in self._parts():
            part.end_epoch()

    def forward(
        self,
        users_bD: Tensor,
        positives: Tensor,
        encode_items: Callable[[Tensor], Tensor],
        generator: torch.Generator | None = None,
        part: BatchPart = _ALONE,
    ) -> Tensor:
        """Mean loss of a batch. With several processes, each gets its share, and the shares add up to the mean.

        Under autocast, the towers run in its type. If that is bfloat16, so does the product of users and shared negatives.
        Draws, counts and sums stay in float32.

        Args:
            users_bD: float32 [b, D], unit vectors.
            positives: int64 [b], item rows.
            encode_items: int64 [n] item rows -> float32 [n, D], unit vectors.
            generator: source of randomness on the device of `positives`, in the same state in all processes.
            part: users, processes and batch size of these rows.

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
            return self._loss(users_bD.float(), positives, encode, generator, part, product)

    def _loss(
        self,
        users_bD: Tensor,
        positives_b: Tensor,
        encode_items: Callable[[Tensor], Tensor],
        generator: torch.Generator | None,
        part: BatchPart,
        product: torch.dtype,
    ) -> Tensor:
        world, batch_size = part.world, part.batch_size or len(positives_b)
        mine, positives_B = world.rows(batch_size), world.gather(positives_b, batch_size)
        drawn = self.sources.draw(positives_B, generator)
        rows = [each.mix(generator).of(mine) for each in drawn.rows]
        shared_S, copies_S = self.sources.merged(drawn)
        wanted = [positives_b, shared_S[world.rows(len(shared_S))], *(items for each in rows for items in each.wanted)]
        positives_bD, part_SD, *others = self._encoded(wanted, encode_items)
        shared_SD = world.gather(part_SD, len(shared_S))
        vectors = [tuple(others.pop(0) for _ in each.wanted) for each in rows]
        step = _Step(positives_B, positives_b, rows, vectors, shared_S, copies_S, shared_SD, positives_bD, product)
        unit_users_bD, users_bD = (
            users_bD,
            users_bD / (self.temperature if self.adaptive is None else self.adaptive.of(part.user_rows)),
        )
        if self.cache is None or not len(self.cache):
            loss, loss_b = self._softmax(step, users_bD)
        else:
            # A cached item cannot be pushed away. If this step's negatives were pushed by their share of a softmax over both,
            # while positives are pulled in full, all items would meet in one point. So items learn only from this softmax.
            own, _ = self._softmax(step, users_bD.detach())
            loss, loss_b = self._softmax(step.with_cached(self.cache), users_bD)
            loss = loss + own - own.detach()
        if self.training and torch.is_grad_enabled():
            unit_loss = partial(self._unit_loss, step, unit_users_bD)
            outcome = StepOutcome(positives_B, loss_b, unit_loss, positives_bD, part.user_rows, world)
            for each in self._parts():
                each.observe(outcome)
        return loss / batch_size

    @torch.no_grad()
    def _unit_loss(self, step: "_Step", unit_users_bD: Tensor) -> Tensor:
        """float32 [b], losses at temperature 1, because a temperature must not learn from losses that depend on itself."""
        return self._softmax(step, unit_users_bD)[1]

    def _encoded(self, wanted: list[Tensor], encode_items: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """Embeddings [..., D] of items [...]. Each item is encoded once, if that is possible without waiting."""
        items_n, num_items = torch.cat([items.flatten() for items in wanted]), self.sources.num_items
        if self.sources.may_look:
            unique, place = torch.unique(items_n, return_inverse=True)
            encoded = torch.nn.functional.embedding(place, encode_items(unique))
        elif len(items_n) < num_items:
            encoded = encode_items(items_n)
        else:
            encoded = torch.nn.functional.embedding(items_n, encode_items(torch.arange(num_items, device=items_n.device)))
        # One split, and every part is used whole, because the gradient of a slice would be a zero-filled copy of the whole.
        parts = encoded.split([items.numel() for items in wanted])
        return [part.view(*items.shape, encoded.shape[1]) for part, items in zip(parts, wanted, strict=True)]

    def _softmax(self, step: "_Step", users_bD: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of this process's rows: their sum, and float32 [b]. The users must be divided by the temperature."""
        at = Positives(users_bD, step.positives_b, step.positives_bD, (users_bD * step.positives_bD).sum(-1))
        items = [step.shared_S, *(each.items_BR for each in step.rows)]
        # Count all items at once, then split the result.
        more = () if step.cache is None else (step.cache,)
        expected = self.sources.expected(step.positives_B, torch.cat([each.flatten() for each in items]), more)
        of_shared, *of_rows = expected.split(items)
        logits = [at.logits_b[:, None]]
        for each, vectors, counts in zip(step.rows, step.vectors, of_rows, strict=True):
            log_counts = self.sources.log_counts(counts, step.positives_b, each.items_BR)
            logits += each.logits(at, vectors, log_counts)
        log_sum_b = torch.cat(logits, dim=1).logsumexp(1)
        log_sum = log_sum_b.sum()
        if len(step.shared_S):
            log_sum, log_sum_b = self._with_shared(step, of_shared, log_sum_b, users_bD)
        return log_sum - at.logits_b.sum(), log_sum_b - at.logits_b

    def _with_shared(self, step: "_Step", expected: Expected, others_b: Tensor, users_bD: Tensor) -> tuple[Tensor, Tensor]:
        """Log-partitions with the shared negatives, which are corrected and count as often as drawn: sum and float32 [b]."""
        sources, positives_b, shared_S = self.sources, step.positives_b, step.shared_S
        log_copies_S = step.copies_S.log().clamp_min(NEVER)

        def log_weights(rows: slice) -> Tensor:
            weights = log_copies_S - sources.log_counts(expected, positives_b[rows], shared_S)
            if self._group_index is not None:
                weight = self.config.same_group_weight
                group_b, group_S = self._group_index.group(positives_b[rows]), self._group_index.group(shared_S)
                same = (group_b[:, None] == group_S) & (group_S >= 0)
                weights = weights + same * (math.log(weight) if weight > 0 else NEVER)
            return weights if sources.may_look else weights.masked_fill(positives_b[rows, None] == shared_S, NEVER)

        excluded = matches(positives_b, shared_S) if sources.may_look else None
        return summed_log_partition(others_b, users_bD, step.shared_SD, log_weights, excluded, step.product)

    def _parts(self) -> list[Part]:
        """All parts that may learn from a step. They gather from other processes in this order."""
        return [each for each in (*self.sources.parts, self.adaptive, self.cache) if each is not None]  # type: ignore[misc]


@dataclass(frozen=True)
class _Step:
    """The items that a step scores, and their embeddings.

    Attributes:
        positives_B: int64 [B], positives of the whole batch.
        positives_b: int64 [b], this process's positives.
        rows: negatives of each of those.
        vectors: embeddings of these negatives.
        shared_S: int64 [S], the shared negatives, each item once if that is worth it.
        copies_S: float32 [S], how often each of them counts.
        shared_SD: float32 [S, D], their embeddings.
        positives_bD: float32 [b, D], embeddings of this process's positives.
        product: type of the product of users and shared negatives.
        cache: the cache from which the last shared negatives come; these were not drawn in this step.
    """

    positives_B: Tensor
    positives_b: Tensor
    rows: list[Rows]
    vectors: list[tuple[Tensor, ...]]
    shared_S: Tensor
    copies_S: Tensor
    shared_SD: Tensor
    positives_bD: Tensor
    product: torch.dtype
    cache: EmbeddingCache | None = None

    def with_cached(self, cache: EmbeddingCache) -> "_Step":
        """The step with the cached items added after the shared negatives; no gradient flows through its vectors."""
        return replace(
            self,
            vectors=[tuple(vector.detach() for vector in vectors) for vectors in self.vectors],
            shared_S=torch.cat([self.shared_S, cache.items]),
            copies_S=torch.cat([self.copies_S, self.copies_S.new_ones(len(cache))]),
            shared_SD=torch.cat([self.shared_SD.detach(), cache.vectors]),
            positives_bD=self.positives_bD.detach(),
            cache=cache,
        )
