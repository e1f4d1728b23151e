"""The sampled softmax with in-batch negatives against the same loss in other libraries: forward and backward.

All libraries get the same embeddings and scale them to unit length. They must give the same loss.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from benchmarks.measure import beside, peak_bytes, seconds
from benchmarks.record import Row
from esans_core import sampled_softmax_loss, summed_log_partition

WHOLE, BLOCKS = "sampled_softmax_loss", "summed_log_partition"
TEMPERATURE = 0.05


@dataclass(frozen=True)
class Size:
    """Attributes: batch sizes B; that of NTXentLoss (whose time grows with B^3); dimension D; repeats."""

    batches: tuple[int, ...] = (1024, 4096)
    ntxent_batch: int = 256
    dim: int = 64
    repeats: int = 11


FULL = Size()
QUICK = Size(batches=(1024,), ntxent_batch=128, repeats=5)


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """Time and memory of ours, with the whole matrix of logits and in blocks, next to those of each peer."""
    for batch in size.batches:
        yield from _measured(batch, size, _multiple_negatives_ranking() if peers else {})
    if peers:
        yield from _measured(size.ntxent_batch, size, _ntxent())


def in_batch(users_BD: Tensor, items_BD: Tensor) -> Tensor:
    """Mean loss of each user's own item against the other items of the batch."""
    users_BD = torch.nn.functional.normalize(users_BD, dim=1) / TEMPERATURE
    logits_BB = users_BD @ torch.nn.functional.normalize(items_BD, dim=1).T
    others = ~torch.eye(len(logits_BB), dtype=torch.bool)
    return sampled_softmax_loss(logits_BB.diagonal(), logits_BB, log_expected_counts=None, valid=others)


def in_batch_in_blocks(users_BD: Tensor, items_BD: Tensor) -> Tensor:
    """The same loss without the matrix [B, B] of logits."""
    users_BD = torch.nn.functional.normalize(users_BD, dim=1) / TEMPERATURE
    items_BD = torch.nn.functional.normalize(items_BD, dim=1)
    own_B, rows_B = (users_BD * items_BD).sum(1), torch.arange(len(users_BD))
    log_sum, _ = summed_log_partition(own_B, users_BD, items_BD, lambda rows: torch.zeros(1, 1), (rows_B, rows_B))
    return (log_sum - own_B.sum()) / len(own_B)


def _measured(batch: int, size: Size, peers: dict[str, Callable[[Tensor, Tensor], Tensor]]) -> Iterator[Row]:
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(batch, size.dim, generator=generator, requires_grad=True) for _ in range(2))

    def learn(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        value = loss(users, items)
        torch.autograd.grad(value, (users, items))
        return value

    ours = {WHOLE: in_batch, BLOCKS: in_batch_in_blocks}
    losses = {**ours, **peers}
    for loss in (in_batch_in_blocks, *peers.values()):
        torch.testing.assert_close(learn(loss), learn(in_batch), rtol=1e-3, atol=1e-4)
    case, steps = f"loss: batch {batch:,}", {name: partial(learn, loss) for name, loss in losses.items()}
    taken = seconds(steps, size.repeats)
    time = {name: Row(case, name, "forward and backward", "ms", 1e3 * value, size.repeats) for name, value in taken.items()}
    memory = {name: Row(case, name, "peak memory", "MB", peak_bytes(step) / 1e6) for name, step in steps.items()}
    for found in (time, memory):
        yield from found.values()
        yield beside(found[BLOCKS], found[WHOLE])
        yield from (beside(found[name], found[peer]) for name in ours for peer in peers)


def _multiple_negatives_ranking() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    from benchmarks.peers.losses import multiple_negatives_ranking

    return {"sentence-transformers MultipleNegativesRankingLoss": multiple_negatives_ranking(1 / TEMPERATURE)}


def _ntxent() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    from benchmarks.peers.losses import ntxent

    return {"pytorch-metric-learning NTXentLoss": ntxent(TEMPERATURE)}
