"""Virtual negatives as logits against virtual negatives as vectors: time and peak memory of forward and backward.

Both ways scale the same embeddings to unit length as the towers do, score the same real negatives, and combine them with the
same weights. They must give the same loss and gradients.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import beside, peak_bytes, seconds
from benchmarks.record import Row
from esans_core.interpolation import (
    hard_lambdas,
    hard_virtual_logits,
    interpolate_embeddings,
    simple_virtual_logits,
    simple_weights,
)
from esans_core.losses import sampled_softmax_loss

LOGITS, VECTORS = "virtual logits", "virtual vectors"
_CLUSTERS, _PER_CLUSTER, _HARD = 2, 5, 5
_TEMPERATURE = 0.07


@dataclass(frozen=True)
class Size:
    """Attributes: batch sizes B, dimension D, repeats."""

    batches: tuple[int, ...] = (1024, 4096)
    dim: int = 64
    repeats: int = 15


FULL = Size()
QUICK = Size(batches=(1024,), repeats=5)


class Step:
    """One batch of embeddings with fixed weights. `logits` and `vectors` give the same loss in two ways."""

    def __init__(self, batch: int, dim: int) -> None:
        generator = torch.Generator().manual_seed(0)
        shapes = {"users": (batch,), "positives": (batch,), "easy": (batch, _CLUSTERS, _PER_CLUSTER), "hard": (batch, _HARD)}
        self.inputs = {
            name: torch.randn(*shape, dim, generator=generator, requires_grad=True) for name, shape in shapes.items()
        }
        self.weights = simple_weights((batch, _CLUSTERS), _PER_CLUSTER, generator=generator)
        self.lambdas = hard_lambdas((batch, _HARD), -0.3, 0.1, generator=generator)

    def logits(self) -> Tensor:
        """Virtual logits from real ones, without any virtual vector."""
        users, positives, easy, hard, real = self._real()
        simple = simple_virtual_logits(real[1], self.weights, easy)
        similarity = torch.einsum("bd,bhd->bh", positives, hard)
        return _loss(*real, simple, hard_virtual_logits(real[0], real[2], self.lambdas, similarity))

    def vectors(self) -> Tensor:
        """Virtual vectors [B, C, V, D] and [B, H, D], then their dot products."""
        users, positives, easy, hard, real = self._real()
        simple = torch.einsum("bd,bcvd->bcv", users, interpolate_embeddings(self.weights, easy))
        pairs = torch.stack([positives[:, None].expand_as(hard), hard], dim=-2)
        shares = torch.stack([self.lambdas, 1 - self.lambdas], dim=-1)[..., None, :]
        between = interpolate_embeddings(shares, pairs).squeeze(-2)
        return _loss(*real, simple, torch.einsum("bd,bhd->bh", users, between))

    def learn(self, loss: Callable[[], Tensor]) -> tuple[Tensor, ...]:
        """Loss, and its gradients with respect to the four inputs."""
        value = loss()
        return value.detach(), *torch.autograd.grad(value, list(self.inputs.values()))

    def _real(self) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
        users, positives, easy, hard = (torch.nn.functional.normalize(part, dim=-1) for part in self.inputs.values())
        users = users / _TEMPERATURE
        real = (
            (users * positives).sum(-1),
            torch.einsum("bd,bcmd->bcm", users, easy),
            torch.einsum("bd,bhd->bh", users, hard),
        )
        return users, positives, easy, hard, real


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """Time and peak memory of both ways; no peers are needed.

    Raises:
        AssertionError: the two ways differ by more than rounding.
    """
    for batch in size.batches:
        step = Step(batch, size.dim)
        ways = {LOGITS: partial(step.learn, step.logits), VECTORS: partial(step.learn, step.vectors)}
        for ours, theirs in zip(ways[LOGITS](), ways[VECTORS](), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
        taken = seconds(ways, size.repeats)
        case = f"edis: batch {batch:,}"
        time = {name: Row(case, name, "forward and backward", "ms", 1e3 * value, size.repeats) for name, value in taken.items()}
        memory = {name: Row(case, name, "peak memory", "MB", peak_bytes(way) / 1e6) for name, way in ways.items()}
        for measured in (time, memory):
            yield measured[VECTORS]
            yield beside(measured[LOGITS], measured[VECTORS])


def _loss(positive: Tensor, easy: Tensor, hard: Tensor, *virtual: Tensor) -> Tensor:
    return sampled_softmax_loss(
        positive, torch.cat([part.flatten(1) for part in (easy, hard, *virtual)], dim=1), log_expected_counts=None, valid=None
    )
