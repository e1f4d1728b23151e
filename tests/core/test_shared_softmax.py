"""The blocked log-partition against the whole matrix, in value and gradient."""

import math

import pytest
import torch

from esans_core import shared_softmax
from esans_core.shared_softmax import NEVER, matches, summed_log_partition

B, S, D = 13, 40, 6


@pytest.mark.parametrize("block", [1, 3 * S, 1 << 21])
@pytest.mark.parametrize("weights", [(1, 1), (S,), (B, S)])
def test_blocks_give_the_value_and_gradient_of_the_whole_matrix(
    block: int, weights: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_softmax, "_CPU_LOGITS", block)
    generator = torch.Generator().manual_seed(0)
    others = (3 * torch.randn(B, generator=generator)).requires_grad_()
    users = (3 * torch.randn(B, D, generator=generator)).requires_grad_()
    shared = torch.randn(S, D, generator=generator).requires_grad_()
    log_weights = torch.randn(weights, generator=generator)
    wanted, items = torch.randint(9, (B,), generator=generator), torch.randint(9, (S,), generator=generator)
    log_sum, summands = summed_log_partition(
        others,
        users,
        shared,
        lambda rows: log_weights[rows] if len(weights) == 2 and weights[0] == B else log_weights,
        matches(wanted, items),
    )
    whole = (users @ shared.T + log_weights).masked_fill(wanted[:, None] == items, NEVER)
    expected = torch.cat([others[:, None], whole], dim=1).logsumexp(1)
    torch.testing.assert_close(summands, expected)
    torch.testing.assert_close(log_sum, expected.sum())
    assert not summands.requires_grad
    leaves = (others, users, shared)
    for a, b in zip(torch.autograd.grad(3 * log_sum, leaves), torch.autograd.grad(3 * expected.sum(), leaves), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("block", [3 * S, 1 << 21])
def test_mixed_precision_multiplies_in_bfloat16_and_sums_in_float32(
    dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_softmax, "_CPU_LOGITS", block)
    users, shared = torch.randn(B, D).to(dtype).requires_grad_(), torch.randn(S, D).to(dtype).requires_grad_()
    log_weights = torch.randn(S)
    none = (torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = summed_log_partition(torch.zeros(B), users, shared, lambda rows: log_weights, none, torch.bfloat16)
    logits = torch.cat([(users.bfloat16() @ shared.bfloat16().T).float() + log_weights, torch.zeros(B, 1)], dim=1)
    torch.testing.assert_close(found, logits.logsumexp(1).sum())
    found.backward()
    pull = logits.softmax(1)[:, :-1].detach()
    for leaf, expected in ((users, pull @ shared.float()), (shared, pull.T @ users.float())):
        assert leaf.grad is not None and leaf.grad.dtype == dtype
        torch.testing.assert_close(leaf.grad.float(), expected, rtol=0.02, atol=0.02)


def test_a_row_in_which_no_shared_negative_counts_is_what_else_there_is() -> None:
    others, users, shared = (torch.randn(*shape, requires_grad=True) for shape in ((2,), (2, D), (3, D)))
    excluded = matches(torch.tensor([5, 6]), torch.tensor([5, 5, 5]))
    log_sum, summands = summed_log_partition(others, users, shared, lambda rows: torch.zeros(1, 1), excluded)
    assert summands[0] == pytest.approx(float(others[0])) and summands[1] > others[1]
    for_others, for_users, for_shared = torch.autograd.grad(log_sum, (others, users, shared))
    assert for_others[0] == 1 and for_others[1] < 1 and not for_users[0].any() and for_shared.isfinite().all()


def test_one_side_alone_gets_the_gradient_it_gets_beside_the_other() -> None:
    others, users, shared = (torch.randn(*shape, requires_grad=True) for shape in ((B,), (B, D), (S, D)))
    both = torch.autograd.grad(summed_log_partition(others, users, shared, lambda rows: torch.zeros(1, 1))[0], (users, shared))
    for alone, expected in zip((users, shared), both, strict=True):
        of = [side if side is alone else side.detach() for side in (others, users, shared)]
        log_sum, _ = summed_log_partition(of[0], of[1], of[2], lambda rows: torch.zeros(1, 1))
        torch.testing.assert_close(torch.autograd.grad(log_sum, alone)[0], expected)
    with torch.no_grad():
        assert not summed_log_partition(others, users, shared, lambda rows: torch.zeros(1, 1))[0].requires_grad


def test_logits_far_apart_neither_overflow_nor_vanish() -> None:
    users, shared = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True), torch.eye(2, requires_grad=True)
    log_sum, summands = summed_log_partition(torch.zeros(2), users, shared, lambda rows: torch.zeros(1, 1))
    torch.testing.assert_close(summands, torch.tensor([200.0, math.log(2)]))
    for gradient in torch.autograd.grad(log_sum, (users, shared)):
        assert gradient.isfinite().all()
