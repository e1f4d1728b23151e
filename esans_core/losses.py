"""Sampled softmax with the log-expected-count (logQ) correction and masking of accidental hits."""

import torch
from torch import Tensor


def sampled_softmax_loss(
    positive_logits: Tensor,
    negative_logits: Tensor,
    *,
    log_expected_counts: Tensor | None,
    valid: Tensor | None,
) -> Tensor:
    """Cross-entropy of each positive against itself and its sampled negatives, averaged over the batch.

    With the correction, the expectation of `exp(s_pos) + sum_j exp(s_j) / E[count_j]` is the partition function of the full
    softmax: a negative that is expected to be drawn less often counts for more. The positive is always present, so it is
    not corrected. (Bengio & Senecal 2008, doi:10.1109/TNN.2007.912312; Yi et al., RecSys 2019,
    doi:10.1145/3298689.3346996.)

    Args:
        positive_logits: float [B], already divided by the temperature.
        negative_logits: float [B, n].
        log_expected_counts: float [B, n] (or broadcastable), log of how many times each negative is expected among the
            draws; None leaves the logits uncorrected. What it holds where `valid` is False does not matter.
        valid: bool [B, n], False for entries that must not count: accidental hits (the negative is the positive) and
            failed draws; None if every entry counts.

    `log_expected_counts` and `valid` have no default, so that nobody forgets them. Pass None if you want no correction, or if
    you know that no draw can fail. `SemanticNegatives` holds both.

    Returns:
        float scalar.

    Raises:
        ValueError: shapes do not fit.
    """
    if positive_logits.dim() != 1 or negative_logits.dim() != 2 or len(positive_logits) != len(negative_logits):
        raise ValueError(
            f"expected positive_logits [B] and negative_logits [B, n], got {list(positive_logits.shape)} and "
            f"{list(negative_logits.shape)}"
        )
    for name, given in (("log_expected_counts", log_expected_counts), ("valid", valid)):
        if given is not None and given.shape[-1] not in (1, negative_logits.shape[1]):
            raise ValueError(
                f"{name} is {list(given.shape)}, which does not fit negative_logits {list(negative_logits.shape)}: if "
                "virtual negatives follow the drawn ones, take both from SemanticNegatives.with_virtual"
            )
    if log_expected_counts is not None:
        negative_logits = negative_logits - log_expected_counts
    if valid is not None:
        negative_logits = negative_logits.masked_fill(~valid, -torch.inf)
    all_logits = torch.cat([positive_logits[:, None], negative_logits], dim=1)
    return (torch.logsumexp(all_logits, dim=1) - positive_logits).mean()
