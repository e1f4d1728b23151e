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
            sampled_softmax_loss(p[None], logits[s][None], log_expected_counts=(draws * proposal[s]).log()[None]) + p
            for p, s in zip(positive[:2000], sampled[:2000], strict=True)
        ]
    )
    assert abs(float(log_z.exp().mean() / logits.exp().sum()) - 1) < 0.02


def test_masked_entries_do_not_count_and_no_negative_gives_zero() -> None:
    positive = torch.tensor([1.0, 2.0])
    negative = torch.tensor([[5.0, 0.0], [0.0, 7.0]])
    valid = torch.tensor([[False, True], [True, False]])
    torch.testing.assert_close(
        sampled_softmax_loss(positive, negative, valid=valid), sampled_softmax_loss(positive, torch.zeros(2, 1))
    )
    assert sampled_softmax_loss(positive, negative, valid=torch.zeros(2, 2, dtype=torch.bool)) == 0


def test_refuses_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"positive_logits \[B\]"):
        sampled_softmax_loss(torch.zeros(3), torch.zeros(2, 4))
