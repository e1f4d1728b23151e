"""One training step's loss: draw negatives, encode every item once, score, correct, sampled softmax.

The sources decide which negatives there are, and how often each is expected (`esans_core.negative_sources`). The softmax over
all of them is in `esans_core.step_softmax`.

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
from esans_core.defaults import TRAINING
from esans_core.encoding import encode_once
from esans_core.negative_sources import NegativeSources
from esans_core.negatives import NegativeConfig
from esans_core.parts import Catalogue, Excerpts, Part, StepOutcome
from esans_core.sampler import SemanticNegativeSampler
from esans_core.step_softmax import ScoredStep, StepSoftmax
from esans_core.temperature import UserTemperature
from esans_core.unscored_step import UnscoredStep
from esans_core.world import World


@dataclass(frozen=True)
class BatchPart:
    """The rows of a batch that a process has.

    Attributes:
        user_rows: int64 [b], rows of the users; needed when the temperature adapts.
        excerpts: the excerpts that the rows come from, whose items are no negatives of these rows; None leaves out only the
            positive itself.
        world: the processes that share the batch.
        counts: how many rows each process has; needed when there are several.
        weights: float32 [b], how much each row's loss counts; None if all count 1.
    """

    user_rows: Tensor | None = None
    excerpts: Excerpts | None = None
    world: World = World()
    counts: tuple[int, ...] | None = None
    weights: Tensor | None = None


_ALONE = BatchPart()
_LEAST_TEMPERATURE = 0.01  # a learnt temperature stops here, as CLIP's does: towers that fit their log perfectly want none


class RetrievalObjective(nn.Module):
    """The loss of a batch of (user, positive item) pairs. If a method has a state, it is in the `state_dict`.

    Args:
        config: which negatives are used.
        item_frequency: float [N], share of each item among training targets (`Loader.target_frequency`).
        temperature: tau, by which cosines are divided to be scores.
        learn_temperature: whether tau is a parameter that starts there (CLIP: Radford et al., ICML 2021, arXiv 2103.00020). If
            the temperature adapts to each user, it is not.
        sampler: the semantic-aware sampler; needed when `config.needs_sampler`.
        item_groups: int64 [N], group of each item; needed by the `fair` proposal.
        num_users: U; needed when `config.adaptive_temperature`.

    Attributes:
        log_temperature: log of tau, a float32 scalar; a parameter that takes a gradient if tau is learnt.
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
        learn_temperature: bool = TRAINING.learn_temperature,
        sampler: SemanticNegativeSampler | None = None,
        item_groups: Tensor | None = None,
        num_users: int = 0,
    ) -> None:
        super().__init__()
        if config.adaptive_temperature and not num_users:
            raise ValueError("an adaptive temperature needs num_users")
        catalogue = Catalogue(item_frequency, sampler, item_groups, num_users)
        self.config = config
        learns = learn_temperature and not config.adaptive_temperature
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learns)
        self.sources = NegativeSources(config, catalogue)
        self.cache = EmbeddingCache(config.num_cached, item_frequency) if config.num_cached else None
        self.adaptive = UserTemperature(temperature, num_users) if config.adaptive_temperature else None
        index = sampler.index if sampler is not None else None
        self._softmax = StepSoftmax(self.sources, config.same_group_weight, index, config.row_loss)

    @property
    def temperature(self) -> Tensor:
        """tau as it is now, float32 scalar."""
        return self.log_temperature.clamp_min(math.log(_LEAST_TEMPERATURE)).exp()

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
        """Mean loss of a batch, by the weights of its rows. With several processes, each gets its share of the mean.

        Under autocast, the towers run in its type. If that is bfloat16, so does the product of users and shared negatives.
        Draws, counts and sums stay in float32.

        Args:
            users_bD: float32 [b, D], unit vectors.
            positives: int64 [b], item rows.
            encode_items: int64 [n] item rows -> float32 [n, D], unit vectors.
            generator: source of randomness on the device of `positives`, in the same state in all processes.
            part: users of these rows, and the processes that share the batch.

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
        world, counts, may_look = part.world, part.counts or (len(positives_b),), self.sources.may_look
        if self.config.step_loss is not None:
            scaled_bD, num_items = users_bD / self.temperature, self.sources.num_items
            return self.config.step_loss.mean_loss(
                UnscoredStep(scaled_bD, positives_b, encode_items, num_items, counts, generator, world, may_look, part.weights)
            )
        gather, mine = partial(world.gather, counts=counts), world.own(counts)
        positives_B = gather(positives_b)
        drawn = self.sources.draw(positives_B, generator)
        rows = [each.mix(generator).of(mine) for each in drawn.rows]
        shared_S, copies_S = self.sources.merged(drawn)
        wanted = [positives_b, shared_S[world.rows(len(shared_S))], *(items for each in rows for items in each.wanted)]
        positives_bD, part_SD, *others = encode_once(wanted, encode_items, self.sources.num_items, may_look=may_look)
        shared_SD = world.gather(part_SD, world.counts(len(shared_S)))
        vectors = [tuple(others.pop(0) for _ in each.wanted) for each in rows]
        step = ScoredStep(
            positives_B, positives_b, rows, vectors, shared_S, copies_S, shared_SD, positives_bD, product, self._scaled(part)
        )
        step = replace(step, weights_b=part.weights)
        temperature = self._temperature(step) if self.adaptive is None else self.adaptive.of(part.user_rows)
        unit_users_bD, users_bD = users_bD, users_bD / temperature
        if self.cache is None or not len(self.cache):
            loss, loss_b = self._softmax.losses(step, users_bD)
        else:
            # A cached item cannot be pushed away. If this step's negatives were pushed by their share of a softmax over both,
            # while positives are pulled in full, all items would meet in one point. So items learn only from this softmax.
            own, _ = self._softmax.losses(step, users_bD.detach())
            loss, loss_b = self._softmax.losses(step.with_cached(self.cache), users_bD)
            loss = loss + own - own.detach()
        if self.training and torch.is_grad_enabled():
            unit_loss = partial(self._unit_loss, step, unit_users_bD)
            outcome = StepOutcome(positives_B, loss_b, unit_loss, positives_bD, part.user_rows, gather)
            for each in self._parts():
                each.observe(outcome)
        return loss / (len(positives_B) if part.weights is None else gather(part.weights).sum())

    def _scaled(self, part: BatchPart) -> Excerpts | None:
        """The excerpts, their users divided by the temperature, or without users if negatives must be scored for each row."""
        excerpts = part.excerpts
        if excerpts is None or excerpts.users_wD is None:
            return excerpts
        alike = self._softmax.rows_alike and self.adaptive is None and self.cache is None
        return replace(excerpts, users_wD=excerpts.users_wD.float() / self.temperature.detach() if alike else None)

    def _temperature(self, step: ScoredStep) -> Tensor:
        """tau, constant if negatives are scored against users who know the positive: they seem too easy, and tau would fall."""
        of_sets = step.excerpts is not None and step.excerpts.users_wD is not None and len(step.shared_S) > 0
        return self.temperature.detach() if of_sets else self.temperature

    @torch.no_grad()
    def _unit_loss(self, step: ScoredStep, unit_users_bD: Tensor) -> Tensor:
        """float32 [b], losses at temperature 1, because a temperature must not learn from losses that depend on itself."""
        return self._softmax.losses(step, unit_users_bD)[1]

    def _parts(self) -> list[Part]:
        """All parts that may learn from a step. They gather from other processes in this order."""
        return [each for each in (*self.sources.parts, self.adaptive, self.cache) if each is not None]  # type: ignore[misc]
