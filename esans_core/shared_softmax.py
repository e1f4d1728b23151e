"""The log-partition over negatives that a whole batch shares, in blocks of users.

The logits of B users against S shared negatives are the largest thing in a training step: 64 MB at B = 1,024 and S = 16,384.
Here they are made block by block, while they are in the cache, summed, forgotten, and made again for the gradient: a second
product costs less than writing the matrix out and reading it back, several times over, and memory no longer grows with B x S.
The products may take bfloat16; everything else is done in float32.

Shape legend: B users, S shared negatives, D dimension, b users of one block.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

NEVER = -1e9  # logit of what must not count; finite, so that a row in which nothing counts has a gradient of zero and not NaN
_CPU_LOGITS = 1 << 21  # 8 MB
_GPU_LOGITS = 1 << 27
_KEPT_WEIGHTS = 1 << 22  # 16 MB of log weights are kept for the gradient; what is more is asked for again

LogWeights = Callable[[slice], Tensor]


def shared_log_sum(
    users_BD: Tensor,
    shared_SD: Tensor,
    log_weights: LogWeights,
    excluded: tuple[Tensor, Tensor] | None = None,
    product: torch.dtype = torch.float32,
) -> Tensor:
    """log sum_s exp(<u_b, v_s> + w_bs) for each user b.

    Args:
        users_BD: float [B, D], divided by the temperature.
        shared_SD: float [S, D].
        log_weights: rows of the batch, a slice -> w, float32 that broadcasts to [b, S]; may be called again for the gradient,
            which does not flow through it.
        excluded: pairs (b, s) that must not count, two int64 tensors of one length, b ascending; a GPU that should not wait
            for their number is better told by a weight of `NEVER`.
        product: type that the embeddings are rounded to for the products of users and negatives, float32 or bfloat16.

    Returns:
        float32 [B].
    """
    # Logits made for the gradient must be those of the sum, so nothing below may depend on the context it is called in.
    with torch.autocast(users_BD.device.type, enabled=False):
        return _SharedLogSum.apply(users_BD.float(), shared_SD.float(), log_weights, excluded, product)


class _SharedLogSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        users_BD: Tensor,
        shared_SD: Tensor,
        log_weights: LogWeights,
        excluded: tuple[Tensor, Tensor] | None,
        product: torch.dtype,
    ) -> Tensor:
        log_sum_B = torch.empty(len(users_BD), device=users_BD.device)
        users_BD, shared_SD = users_BD.to(product), shared_SD.to(product)
        ctx.log_weights, ctx.excluded = _Kept(log_weights), excluded
        for rows, logits_bS in _blocks(users_BD, shared_SD, ctx.log_weights, excluded):
            largest_b1 = logits_bS.amax(1, keepdim=True)
            log_sum_B[rows] = logits_bS.sub_(largest_b1).exp_().sum(1).log_().add_(largest_b1[:, 0])
        ctx.save_for_backward(users_BD, shared_SD, log_sum_B)
        return log_sum_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        users_BD, shared_SD, log_sum_B = ctx.saved_tensors
        grad_BD, grad_SD = grad_B.new_empty(users_BD.shape), grad_B.new_zeros(shared_SD.shape)
        for rows, logits_bS in _blocks(users_BD, shared_SD, ctx.log_weights, ctx.excluded):
            pull_bS = logits_bS.sub_(log_sum_B[rows, None]).exp_().mul_(grad_B[rows, None]).to(shared_SD.dtype)
            grad_BD[rows] = pull_bS @ shared_SD
            if pull_bS.dtype == grad_SD.dtype:
                grad_SD.addmm_(pull_bS.T, users_BD[rows])
            else:
                grad_SD += pull_bS.T @ users_BD[rows]  # blocks are added up in float32
        return grad_BD, grad_SD, None, None, None


class _Kept:
    """Log weights that remember their first blocks, as far as the memory set aside for them goes."""

    def __init__(self, log_weights: LogWeights) -> None:
        self._log_weights, self._kept, self._left = log_weights, dict[int, Tensor](), _KEPT_WEIGHTS

    def __call__(self, rows: slice) -> Tensor:
        if rows.start in self._kept:
            return self._kept[rows.start]
        weights = self._log_weights(rows)
        if weights.numel() <= self._left:
            self._kept[rows.start], self._left = weights, self._left - weights.numel()
        return weights


def _blocks(
    users_BD: Tensor, shared_SD: Tensor, log_weights: LogWeights, excluded: tuple[Tensor, Tensor] | None
) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the batch, each with its logits [b, S], which the receiver may overwrite."""
    count = len(users_BD)
    size = max(1, (_GPU_LOGITS if users_BD.is_cuda else _CPU_LOGITS) // max(1, len(shared_SD)))
    starts = range(0, count, size)
    bounds = _bounds(excluded[0], [*starts, count]) if excluded else []
    for block, start in enumerate(starts):
        rows = slice(start, min(start + size, count))
        weights = log_weights(rows)
        if users_BD.dtype == weights.dtype:
            logits_bS = torch.addmm(weights, users_BD[rows], shared_SD.T)
        else:
            logits_bS = (users_BD[rows] @ shared_SD.T).float().add_(weights)
        if excluded:
            row, column = (part[bounds[block] : bounds[block + 1]] for part in excluded)
            logits_bS[row - start, column] = NEVER
        yield rows, logits_bS


def _bounds(row: Tensor, starts: list[int]) -> list[int]:
    """Where each block begins among ascending rows, and where the last one ends."""
    return [0, len(row)] if len(starts) == 2 else torch.searchsorted(row, row.new_tensor(starts)).tolist()
