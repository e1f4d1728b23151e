"""The blocked log-partition against the whole matrix, in value and gradient."""

import pytest
import torch

from esans_core import shared_softmax
from esans_core.objective import matches
from esans_core.shared_softmax import NEVER, shared_log_sum

B, S, D = 13, 40, 6


@pytest.mark.parametrize("block", [1, 3 * S, 1 << 21])
@pytest.mark.parametrize("weights", [(1, 1), (S,), (B, S)])
@pytest.mark.parametrize("kept", [0, 6 * S, 1 << 22])
def test_blocks_give_the_value_and_gradient_of_the_whole_matrix(
    block: int, weights: tuple[int, ...], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_softmax, "_KEPT_WEIGHTS", kept)
    monkeypatch.setattr(shared_softmax, "_CPU_LOGITS", block)
    generator = torch.Generator().manual_seed(0)
    users = (3 * torch.randn(B, D, generator=generator)).requires_grad_()
    shared = torch.randn(S, D, generator=generator).requires_grad_()
    log_weights = torch.randn(weights, generator=generator)
    wanted, items = torch.randint(9, (B,), generator=generator), torch.randint(9, (S,), generator=generator)
    found = shared_log_sum(
        users,
        shared,
        lambda rows: log_weights[rows] if len(weights) == 2 and weights[0] == B else log_weights,
        matches(wanted, items),
    )
    whole = (users @ shared.T + log_weights).masked_fill(wanted[:, None] == items, NEVER).logsumexp(1)
    torch.testing.assert_close(found, whole)
    direction = torch.randn(B, generator=generator)
    for a, b in zip(*(torch.autograd.grad((x * direction).sum(), (users, shared)) for x in (found, whole)), strict=True):
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
        found = shared_log_sum(users, shared, lambda rows: log_weights, none, torch.bfloat16)
    logits = (users.bfloat16() @ shared.bfloat16().T).float() + log_weights
    torch.testing.assert_close(found, logits.logsumexp(1))
    found.sum().backward()
    pull = logits.softmax(1).detach()
    for leaf, expected in ((users, pull @ shared.float()), (shared, pull.T @ users.float())):
        assert leaf.grad is not None and leaf.grad.dtype == dtype
        torch.testing.assert_close(leaf.grad.float(), expected, rtol=0.02, atol=0.02)


def test_a_row_in_which_nothing_counts_has_no_weight_and_a_finite_gradient() -> None:
    users, shared = torch.randn(2, D, requires_grad=True), torch.randn(3, D, requires_grad=True)
    excluded = matches(torch.tensor([5, 6]), torch.tensor([5, 5, 5]))
    log_sum = shared_log_sum(users, shared, lambda rows: torch.zeros(1, 1), excluded)
    assert log_sum[0] < NEVER / 2 and log_sum[1] > -100
    for gradient in torch.autograd.grad(torch.logaddexp(torch.zeros(2), log_sum).sum(), (users, shared)):
        assert gradient.isfinite().all()
