"""Virtual logits against vectors that are really made, in value and gradient (equations 11-12)."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from esans_core.interpolation import (
    hard_lambdas,
    hard_virtual_logits,
    interpolate_embeddings,
    num_simple_virtual,
    simple_virtual_logits,
    simple_weights,
)

B, C, M, D, H = 6, 2, 5, 16, 4


def last_layers() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Users, positives, easy and hard items before normalisation, which is part of both paths, as in the towers."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((B, D), (B, D), (B, C, M, D), (B, H, D))
    return tuple(torch.randn(shape, generator=generator).requires_grad_() for shape in shapes)  # type: ignore[return-value]


def gradients(value: Tensor, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad((value * torch.linspace(-1, 1, value.numel()).view_as(value)).sum(), inputs, retain_graph=True)


@pytest.mark.parametrize("normalise", [True, False])
def test_simple_logits_equal_materialised_vectors(normalise: bool) -> None:
    raw_users, _, raw_easy, _ = last_layers()
    users, easy = normalize(raw_users, dim=-1), normalize(raw_easy, dim=-1)
    weights = simple_weights((B, C), M, generator=torch.Generator().manual_seed(1))
    logits = torch.einsum("bd,bcmd->bcm", users, easy)
    fast = simple_virtual_logits(logits, weights, easy if normalise else None)
    vectors = interpolate_embeddings(weights, easy, normalise=normalise)
    slow = torch.einsum("bd,bcvd->bcv", users, vectors)
    torch.testing.assert_close(fast, slow)
    for a, b in zip(gradients(fast, (raw_users, raw_easy)), gradients(slow, (raw_users, raw_easy)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_simple_logits_take_embeddings_of_mixed_precision() -> None:
    easy = normalize(torch.randn(B, C, M, D), dim=-1).bfloat16().requires_grad_()
    logits = torch.randn(B, C, M, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        virtual = simple_virtual_logits(logits, simple_weights((B, C), M), easy)
    assert virtual.dtype == torch.float32
    virtual.sum().backward()
    for leaf in (easy, logits):
        assert leaf.grad is not None and leaf.grad.dtype == torch.bfloat16 and leaf.grad.isfinite().all()


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("fixed", [0.5, 0.3, 0.1, -0.1, -0.3, -0.5, None])
def test_hard_logits_equal_materialised_vectors(normalise: bool, fixed: float | None) -> None:
    raw_users, raw_positives, _, raw_hard = last_layers()
    users, positives, hard = (normalize(raw, dim=-1) for raw in (raw_users, raw_positives, raw_hard))
    low, high = (fixed, fixed) if fixed is not None else (-0.5, 0.5)
    lambdas = hard_lambdas((B, H), low, high, generator=torch.Generator().manual_seed(1))
    similarity = torch.einsum("bd,bhd->bh", positives, hard)
    fast = hard_virtual_logits(
        (users * positives).sum(-1), torch.einsum("bd,bhd->bh", users, hard), lambdas, similarity if normalise else None
    )
    vectors = lambdas[..., None] * positives[:, None] + (1 - lambdas[..., None]) * hard
    slow = torch.einsum("bd,bhd->bh", users, normalize(vectors, dim=-1) if normalise else vectors)
    torch.testing.assert_close(fast, slow)
    leaves = (raw_users, raw_positives, raw_hard)
    for a, b in zip(gradients(fast, leaves), gradients(slow, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("m", [2, 3, 5, 8])
def test_weights_are_k_convex_combinations_of_k_items(m: int) -> None:
    weights = simple_weights((300,), m, generator=torch.Generator().manual_seed(0))
    assert weights.shape == (300, num_simple_virtual(m), m)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(300, num_simple_virtual(m)))
    sizes = torch.tensor([k for k in range(2, m + 1) for _ in range(k)])
    assert ((weights > 0).sum(-1) == sizes).all()


def test_weights_are_uniform_over_subsets_and_over_the_simplex() -> None:
    weights = simple_weights((40_000,), 3, generator=torch.Generator().manual_seed(0))
    pairs = weights[:, 0]
    used = (pairs > 0).double().mean(0)
    torch.testing.assert_close(used, torch.full((3,), 2 / 3, dtype=torch.double), atol=0.015, rtol=0)
    share = pairs[pairs[:, 0] > 0][:, 0]  # of two items the first one's share is uniform on [0, 1]
    for quantile in (0.1, 0.5, 0.9):
        assert abs(float(share.quantile(quantile)) - quantile) < 0.02
    triple = weights[:, 2]
    assert abs(float(triple.var(0).mean()) - 1 / 18) < 0.002  # Dirichlet(1, 1, 1)


def test_paper_default_makes_fourteen_virtual_negatives_per_cluster() -> None:
    assert num_simple_virtual(5) == sum(range(2, 6)) == 14


def test_opposite_items_that_cancel_give_finite_logits_and_gradients() -> None:
    items = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], requires_grad=True)
    logits = items @ torch.tensor([1.0, 0.0])
    virtual = simple_virtual_logits(logits, torch.tensor([[[0.5, 0.5]]]), items)
    virtual.sum().backward()
    assert virtual.isfinite().all() and items.grad is not None and items.grad.isfinite().all()


def test_lambda_range() -> None:
    drawn = hard_lambdas((20_000,), -0.3, 0.1, generator=torch.Generator().manual_seed(0))
    assert drawn.min() >= -0.3 and drawn.max() < 0.1 and abs(float(drawn.mean()) + 0.1) < 0.005
    assert (hard_lambdas((5,), 0.3, 0.3) == 0.3).all()
    with pytest.raises(ValueError, match="low <= high"):
        hard_lambdas((5,), 0.3, 0.1)
    with pytest.raises(ValueError, match="at least 2 items"):
        simple_weights((5,), 1)
