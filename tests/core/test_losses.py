import pytest
import torch

from esans_core.losses import sampled_softmax_loss


def test_all_items_as_negatives_is_the_full_softmax() -> None:
    logits = torch.randn(7, 20, generator=torch.Generator().manual_seed(0))
    target = torch.arange(7)
    loss = sampled_softmax_loss(
        logits[target, target],
        logits,
        valid=torch.arange(20)[None, :] != target[:, None],
        log_expected_counts=torch.zeros(7, 20),
    )
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, target))


def test_correction_makes_the_partition_function_unbiased() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(30, generator=generator)
    proposal = torch.softmax(torch.randn(30, generator=generator), 0)
    draws, repeats = 10, 20_000
    sampled = torch.multinomial(proposal, draws * repeats, replacement=True, generator=generator).view(repeats, draws)
    positive = torch.full((repeats,), -40.0)  # negligible beside the negatives, so loss + positive is log Z of the negatives
    log_z = torch.stack(
        [
            sampled_softmax_loss(p[None], logits[s][None], log_expected_counts=(draws * proposal[s]).log()[None], valid=None)
            + p
            for p, s in zip(positive[:2000], sampled[:2000], strict=True)
        ]
    )
    assert abs(float(log_z.exp().mean() / logits.exp().sum()) - 1) < 0.02


def test_masked_entries_do_not_count_and_no_negative_gives_zero() -> None:
    positive = torch.tensor([1.0, 2.0])
    negative = torch.tensor([[5.0, 0.0], [0.0, 7.0]])
    valid = torch.tensor([[False, True], [True, False]])
    torch.testing.assert_close(
        sampled_softmax_loss(positive, negative, log_expected_counts=None, valid=valid),
        sampled_softmax_loss(positive, torch.zeros(2, 1), log_expected_counts=None, valid=None),
    )
    none = torch.zeros(2, 2, dtype=torch.bool)
    assert sampled_softmax_loss(positive, negative, log_expected_counts=None, valid=none) == 0


@pytest.mark.parametrize("count", [0.0, 1.0, torch.inf])
def test_what_an_entry_that_does_not_count_holds_reaches_neither_loss_nor_gradient(count: float) -> None:
    positive, negative = (
        torch.tensor([1.0, 2.0], requires_grad=True),
        torch.tensor([[5.0, 0.0], [0.0, 7.0]], requires_grad=True),
    )
    counts, valid = torch.tensor([[count, 2.0], [count, count]]), torch.tensor([[False, True], [False, False]])
    loss = sampled_softmax_loss(positive, negative, log_expected_counts=counts.log(), valid=valid)
    expected = sampled_softmax_loss(
        positive[:1], negative[:1, 1:], log_expected_counts=torch.full((1, 1), 2.0).log(), valid=None
    )
    torch.testing.assert_close(loss, expected / 2)
    grads = torch.autograd.grad(loss, [positive, negative])
    assert all(bool(grad.isfinite().all()) for grad in grads)
    assert float(grads[1][0, 0]) == 0 and bool((grads[1][1] == 0).all())


def test_neither_counts_nor_validity_can_be_forgotten_or_be_of_other_negatives() -> None:
    positive, negative = torch.zeros(2), torch.zeros(2, 4)
    with pytest.raises(TypeError, match="valid"):
        sampled_softmax_loss(positive, negative, log_expected_counts=None)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="log_expected_counts"):
        sampled_softmax_loss(positive, negative, valid=None)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="valid is .*with_virtual"):
        sampled_softmax_loss(positive, negative, log_expected_counts=None, valid=torch.ones(2, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="log_expected_counts is .*with_virtual"):
        sampled_softmax_loss(positive, negative, log_expected_counts=torch.zeros(2, 3), valid=None)


def test_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"positive_logits \[B\]"):
        sampled_softmax_loss(torch.zeros(3), torch.zeros(2, 4), log_expected_counts=None, valid=None)
