"""EDIS: virtual negatives from tower outputs (ESANS, WWW 2025, arXiv 2502.16077, section on EDIS, equations 11-12).

A virtual negative is a linear combination of item embeddings, v = sum_k a_k V_k. Its logit is the same combination of real
logits, <U, v> = sum_k a_k <U, V_k>, and its length is sqrt(a' G a) with G the Gram matrix of the combined items. So the
virtual logits come from the real logits and a Gram matrix of size m x m: no virtual vector is ever made.

Shape legend: V virtual negatives of one set, m items combined, D embedding dimension; `...` any leading dimensions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_MIN_SQUARED_NORM = 1e-12


def num_simple_virtual(items_per_cluster: int) -> int:
    """m_v = 2 + 3 + ... + m_o = (m_o + 2)(m_o - 1) / 2, the number of virtual negatives of one cluster (equation 12).

    >>> num_simple_virtual(5)
    14
    """
    return (items_per_cluster + 2) * (items_per_cluster - 1) // 2


def simple_weights(
    leading: tuple[int, ...],
    items_per_cluster: int,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Random convex weights of simple interpolation: for each k in 2..m_o, k combinations of k items picked at random.

    Args:
        leading: leading dimensions, for example (batch, clusters).
        items_per_cluster: m_o, at least 2.
        generator: source of randomness on `device`.
        device: where the weights are made.

    Returns:
        float32 [*leading, m_v, m_o]. Each row is non-negative, sums to 1 and has exactly k non-zero entries. Given the
        subset, the weights are uniform on the simplex.
    """
    if items_per_cluster < 2:
        raise ValueError(f"simple interpolation combines at least 2 items, got items_per_cluster = {items_per_cluster}")
    num_virtual = num_simple_virtual(items_per_cluster)
    k = torch.arange(2, items_per_cluster + 1, device=device)
    sizes_V = k.repeat_interleave(k, output_size=num_virtual)  # made on the device: nothing waits for a copy
    # While the weights are made, the combined items are the first dimension, so that each operation below runs over long rows.
    shape = (items_per_cluster, *leading, num_virtual)
    noise = torch.rand(shape, generator=generator, device=device)
    exponential = torch.rand(shape, generator=generator, device=device)
    rank = torch.zeros(shape, dtype=torch.int32, device=device)
    for item in range(items_per_cluster):  # a random order: how many others come before it; equal ones by position
        rank[:item] += noise[item] < noise[:item]
        rank[item + 1 :] += noise[item] <= noise[item + 1 :]
    exponential.clamp_min_(1e-7).log_().neg_().clamp_min_(1e-7).masked_fill_(rank >= sizes_V, 0.0)
    return (exponential / exponential.sum(0)).movedim(0, -1).contiguous()


def hard_lambdas(
    shape: tuple[int, ...],
    low: float,
    high: float,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """lambda for each hard virtual negative: uniform on [low, high]; equal ends give a constant. float32 of `shape`.

    Raises:
        ValueError: low exceeds high, or high is 1 or more (the virtual item would be the positive).
    """
    if low > high or high >= 1:
        raise ValueError(f"need low <= high < 1, got low = {low}, high = {high}")
    if low == high:
        return torch.full(shape, low, device=device)
    return torch.rand(shape, generator=generator, device=device) * (high - low) + low


def simple_virtual_logits(logits: Tensor, weights: Tensor, embeddings: Tensor | None = None) -> Tensor:
    """Logits of simple virtual negatives, without the virtual vectors.

    Args:
        logits: float [..., m], logits of the combined items against one user (already divided by tau).
        weights: float [..., V, m], from `simple_weights`; constants, through which no gradient flows.
        embeddings: float [..., m, D], the items' embeddings. If they are given, virtual items are scaled to unit length like
            real ones; with None they stay as combined.

    Returns:
        float [..., V].
    """
    if embeddings is None:
        return (weights * logits[..., None, :]).sum(-1)
    dtype = torch.promote_types(weights.dtype, embeddings.dtype)  # in mixed precision the embeddings may have fewer bits
    return _UnitCombination.apply(logits.to(dtype), weights.to(dtype), embeddings.to(dtype))


class _UnitCombination(torch.autograd.Function):
    """v = W l / sqrt(diag(W G W')), G = E E'. A gradient written by hand takes half the time. With q = dv * v / |Wx|^2 it is
    dl = W' (dv / |Wx|) and, because G is symmetric, dE = -(W' diag(q) W) E."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, weights: Tensor, embeddings: Tensor) -> Tensor:
        gram = embeddings @ embeddings.transpose(-1, -2)
        scale = ((weights @ gram) * weights).sum(-1).clamp_min(_MIN_SQUARED_NORM).rsqrt()
        virtual = (weights * logits[..., None, :]).sum(-1) * scale
        ctx.save_for_backward(weights, embeddings, virtual, scale)
        return virtual

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, Tensor]:
        weights, embeddings, virtual, scale = ctx.saved_tensors
        scaled = grad * scale
        grad_logits = (weights * scaled[..., None]).sum(-2)
        pull = (weights * (scaled * virtual * -scale)[..., None]).transpose(-1, -2) @ weights
        return grad_logits, None, pull @ embeddings


def hard_virtual_logits(
    positive_logits: Tensor, hard_logits: Tensor, lambdas: Tensor, similarity: Tensor | None = None
) -> Tensor:
    """Logits of lambda * V_positive + (1 - lambda) * V_hard, without the virtual vectors.

    A positive lambda pulls the virtual item toward the positive (harder), a negative one pushes it away (easier).

    Args:
        positive_logits: float [B].
        hard_logits: float [B, H].
        lambdas: float [B, H], from `hard_lambdas`.
        similarity: float [B, H], cosine between positive and hard negative. If it is given, virtual items are scaled to unit
            length (the embeddings must have unit length); with None they stay as combined.

    Returns:
        float [B, H].
    """
    virtual = lambdas * positive_logits[:, None] + (1 - lambdas) * hard_logits
    if similarity is None:
        return virtual
    squared_norm = lambdas**2 + (1 - lambdas) ** 2 + 2 * lambdas * (1 - lambdas) * similarity
    return virtual * squared_norm.clamp_min(_MIN_SQUARED_NORM).rsqrt()


def interpolate_embeddings(weights: Tensor, embeddings: Tensor, *, normalise: bool = True) -> Tensor:
    """The virtual vectors themselves, for use outside the logit path (an index, a plot, a check).

    Args:
        weights: float [..., V, m].
        embeddings: float [..., m, D].
        normalise: scale the result to unit length.

    Returns:
        float [..., V, D].
    """
    virtual = weights @ embeddings
    return virtual / virtual.norm(dim=-1, keepdim=True).clamp_min(_MIN_SQUARED_NORM**0.5) if normalise else virtual
