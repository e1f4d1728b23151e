"""The log-partition over negatives that a whole batch shares. It is computed in blocks of users, together with its gradient.

The logits of B users against S shared negatives are the largest thing in a training step: 64 MB at B = 1,024 and S = 16,384.
Here they are made block by block. While a block is in the cache, it is summed, multiplied into both gradients and forgotten.
This takes three matrix products and one exponential for each pair, and no memory that grows with B x S. It works only if the
incoming gradient is one number for all users, so the function returns the sum over the users. The products may take bfloat16;
everything else is done in float32.

Shape legend: B users, S shared negatives, D dimension, b users of one block.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

NEVER = -1e9  # logit of a pair that must not count; finite, so that a row without any that counts has gradient zero, not NaN
_CPU_LOGITS = 1 << 22  # 16 MB
_GPU_LOGITS = 1 << 27
_BITS = math.log2(math.e)  # logits are exponents of two, because processors compute 2^x several times faster than e^x

LogWeights = Callable[[slice], Tensor]


def summed_log_partition(
    others_B: Tensor,
    users_BD: Tensor,
    shared_SD: Tensor,
    log_weights: LogWeights,
    excluded: tuple[Tensor, Tensor] | None = None,
    product: torch.dtype = torch.float32,
    row_weights_B: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """sum_b r_b log(exp(o_b) + sum_s exp(<u_b, v_s> + w_bs)), and each user's logarithm.

    Args:
        others_B: float [B], log-partition o over user b's own logits, which are the positive's and any that are not shared.
        users_BD: float [B, D], divided by the temperature.
        shared_SD: float [S, D].
        log_weights: function from a slice of the batch's rows to w, float32 that broadcasts to [b, S]; no gradient flows
            through it.
        excluded: pairs (b, s) that must not count, two int64 tensors of one length, b ascending. To find their number, a GPU
            would have to wait; a weight of `NEVER` excludes pairs without that.
        product: type that the embeddings are rounded to for the products of users and negatives, float32 or bfloat16.
        row_weights_B: float32 [B], r, how much each user counts in the sum; 1 unless given. No gradient flows through it.

    Returns:
        float32 scalar, the sum; and float32 [B], the logarithms, through which no gradient flows.
    """
    enabled = torch.is_grad_enabled()
    wanted = (enabled and users_BD.requires_grad, enabled and shared_SD.requires_grad)
    with torch.autocast(users_BD.device.type, enabled=False):
        return _SummedLogPartition.apply(
            others_B.float(), users_BD.float(), shared_SD.float(), log_weights, excluded, product, wanted, row_weights_B
        )


def matches(wanted_B: Tensor, items_S: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs (b, s) with wanted_B[b] == items_S[s], as two int64 tensors of one length."""
    sorted_S, order = items_S.sort()
    first = torch.searchsorted(sorted_S, wanted_B)
    count = torch.searchsorted(sorted_S, wanted_B, right=True) - first
    row = torch.repeat_interleave(count)
    within = torch.arange(len(row), device=row.device) - (count.cumsum(0) - count)[row]
    return row, order[first[row] + within]


class _SummedLogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        others_B: Tensor,
        users_BD: Tensor,
        shared_SD: Tensor,
        log_weights: LogWeights,
        excluded: tuple[Tensor, Tensor] | None,
        product: torch.dtype,
        wanted: tuple[bool, bool],
        row_weights_B: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        users_BD, shared_SD, others_B = users_BD.to(product), shared_SD.to(product), others_B * _BITS
        count, size = len(users_BD), _block_size(users_BD, shared_SD)
        starts = range(0, count, size)
        bounds = _bounds(excluded[0], [*starts, count]) if excluded else []
        memory_bS = others_B.new_empty(min(size, count), len(shared_SD))
        log_sum_B = torch.empty_like(others_B)
        grad_BD = others_B.new_empty(users_BD.shape) if wanted[0] else None
        grad_SD = others_B.new_zeros(shared_SD.shape) if wanted[1] else None
        for block, start in enumerate(starts):
            rows = slice(start, min(start + size, count))
            users_bD, others_b = users_BD[rows], others_B[rows]
            logits_bS = _logits(users_bD, shared_SD, log_weights(rows), memory_bS[: len(users_bD)])
            if excluded:
                row, column = (part[bounds[block] : bounds[block + 1]] for part in excluded)
                logits_bS[row - start, column] = NEVER
            largest_b = torch.maximum(logits_bS.amax(1), others_b)
            terms_bS = logits_bS.sub_(largest_b[:, None]).exp2_()
            excess_b = terms_bS.sum(1).add_((others_b - largest_b).exp2_()).log2_()
            log_sum_B[rows] = largest_b + excess_b
            share_b1 = excess_b.neg_().exp2_()[:, None]  # multiplied by this, a term is its share of the partition
            if row_weights_B is not None:
                share_b1 = share_b1 * row_weights_B[rows, None]
            terms_bS = terms_bS.to(product)
            if grad_BD is not None:
                grad_BD[rows] = (terms_bS @ shared_SD) * share_b1
            if grad_SD is not None:
                shared_out = (users_bD * share_b1).to(product)
                if product == grad_SD.dtype:
                    grad_SD.addmm_(terms_bS.T, shared_out)
                else:
                    grad_SD += terms_bS.T @ shared_out  # blocks are added up in float32
        grad_B = (others_B - log_sum_B).exp2_()
        ctx.save_for_backward(grad_B if row_weights_B is None else grad_B * row_weights_B, grad_BD, grad_SD)
        log_sum_B /= _BITS
        ctx.mark_non_differentiable(log_sum_B)
        return (log_sum_B if row_weights_B is None else log_sum_B * row_weights_B).sum(), log_sum_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if made is None else grad * made for made in ctx.saved_tensors), None, None, None, None, None


def _logits(users_bD: Tensor, shared_SD: Tensor, weights: Tensor, out_bS: Tensor) -> Tensor:
    """Weighted logits as exponents of two. The caller may overwrite them."""
    if users_bD.dtype == weights.dtype:
        return torch.addmm(weights, users_bD, shared_SD.T, beta=_BITS, alpha=_BITS, out=out_bS)
    return out_bS.copy_(users_bD @ shared_SD.T).add_(weights).mul_(_BITS)


def _block_size(users_BD: Tensor, shared_SD: Tensor) -> int:
    """How many users' logits are held at a time."""
    return max(1, (_GPU_LOGITS if users_BD.is_cuda else _CPU_LOGITS) // max(1, len(shared_SD)))


def _bounds(row: Tensor, starts: list[int]) -> list[int]:
    """The position in ascending rows at which each block begins, and at which the last one ends."""
    return [0, len(row)] if len(starts) == 2 else torch.searchsorted(row, row.new_tensor(starts)).tolist()
