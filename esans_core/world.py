"""The processes that train one model together: which rows each one takes, and how rows and gradients are put together.

Everything is exact: a batch is cut into one run of rows for each process, negatives that the batch shares are gathered with
their gradient, and gradients are summed. For a single process nothing here costs anything.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable

_SMALL = 1 << 20  # gradients with up to so many numbers are sent together


@dataclass(frozen=True)
class World:
    """This process among all.

    Attributes:
        rank: number of this process.
        size: W, how many processes there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "World":
        """The world of the default process group, or of one process if there is no group."""
        if not distributed.is_initialized():
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def rows(self, count: int, rank: int | None = None) -> slice:
        """The run of the `count` rows that a process (this one unless given) takes; lengths differ by at most one row."""
        rank = self.rank if rank is None else rank
        return slice(rank * count // self.size, (rank + 1) * count // self.size)

    def counts(self, count: int) -> tuple[int, ...]:
        """How many of `count` rows each process takes (`rows`)."""
        runs = [self.rows(count, rank) for rank in range(self.size)]
        return tuple(run.stop - run.start for run in runs)

    def own(self, counts: Sequence[int]) -> slice:
        """This process's run among rows of which each process has `counts`."""
        start = sum(counts[: self.rank])
        return slice(start, start + counts[self.rank])

    def counts_of(self, own: int, device: torch.device) -> tuple[int, ...]:
        """The number that each process has, if this one has `own`. All processes must ask."""
        if self.size == 1:
            return (own,)
        found = [torch.zeros(1, dtype=torch.long, device=device) for _ in range(self.size)]
        distributed.all_gather(found, torch.tensor([own], device=device))
        return tuple(int(each) for each in found)

    def gather(self, own: Tensor, counts: Sequence[int]) -> Tensor:
        """The rows of all processes, in order. Each process gives its own rows, and gets the gradient of its rows back.

        Args:
            own: [rows, ...], this process's rows.
            counts: how many rows each process has.
        """
        return own if self.size == 1 else _Gather.apply(own, self, tuple(counts))

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(value)
        return value

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace each gradient by its sum over all processes. Of a row-sparse gradient, only its rows are sent."""
        if self.size == 1:
            return
        small: list[Tensor] = []
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                parameter.grad = self._sum_of_rows(gradient)
            elif gradient.numel() > _SMALL:
                distributed.all_reduce(gradient)
            else:
                small.append(gradient)
        if small:
            summed = self.sum(torch.cat([gradient.flatten() for gradient in small]))
            for gradient, part in zip(small, summed.split([gradient.numel() for gradient in small]), strict=True):
                gradient.copy_(part.view_as(gradient))

    def _sum_of_rows(self, gradient: Tensor) -> Tensor:
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        sizes = self.counts_of(len(rows), rows.device)
        indices = torch.cat(_gathered(rows, sizes))[None]
        return torch.sparse_coo_tensor(indices, torch.cat(_gathered(values, sizes)), gradient.shape).coalesce()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, world: World, counts: tuple[int, ...]) -> Tensor:
        ctx.world, ctx.start, ctx.count = world, sum(counts[: world.rank]), counts[world.rank]
        return torch.cat(_gathered(own, counts))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        whole = ctx.world.sum(grad.clone(memory_format=torch.contiguous_format))
        return whole[ctx.start : ctx.start + ctx.count], None, None


def _gathered(own: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Each process's rows; `sizes` says how many. They are padded on the way, because collectives need equal shapes."""
    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own
    parts = [torch.empty_like(padded) for _ in sizes]
    distributed.all_gather(parts, padded)
    return [part[:size] for part, size in zip(parts, sizes, strict=True)]
