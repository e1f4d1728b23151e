"""Weights of events: in the loss, in batches, and in evaluation."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from esans_core.cluster_index import ClusterIndex
from esans_core.loader import Loader
from esans_core.negatives import METHODS, NegativeConfig
from esans_core.objective import BatchPart, RetrievalObjective
from esans_core.sampler import SemanticNegativeSampler
from esans_core.sce import ScalableCrossEntropy
from esans_core.sequences import Sequences

N, D, B = 60, 8, 6
ITEMS = normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=-1)
USERS = normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)), dim=-1)
POSITIVES = torch.arange(B) * 4
WEIGHTS = torch.tensor([1.0, 8.0, 0.5, 3.0, 1.0, 2.0])


def loss_and_gradients(method: Any, weights: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    index = ClusterIndex.from_labels(torch.arange(N) % 4, torch.arange(N) // 4 % 3)
    sampler = SemanticNegativeSampler(index, torch.randn(4, 5, generator=torch.Generator().manual_seed(3)), num_hard=3)
    config = NegativeConfig.for_method(method, num_pool=32, num_per_positive=8)
    frequency = torch.full((N,), 1 / N)
    objective = RetrievalObjective(
        config, frequency, temperature=0.1, sampler=sampler, item_groups=torch.arange(N) % 4, num_users=B
    )
    objective.eval()  # a method that learns from a step must not do so between the steps that are compared
    users, items = USERS.clone().requires_grad_(), ITEMS.clone().requires_grad_()
    part = BatchPart(torch.arange(B), weights=weights)
    loss = objective(users, POSITIVES, lambda rows: items[rows], torch.Generator().manual_seed(5), part)
    loss.backward()
    assert users.grad is not None and items.grad is not None
    return loss.detach(), users.grad, items.grad


@pytest.mark.parametrize("method", METHODS)
def test_a_weighted_loss_is_the_weighted_mean_of_the_rows(method: Any) -> None:
    alone = [loss_and_gradients(method, torch.eye(B)[row]) for row in range(B)]
    together = loss_and_gradients(method, WEIGHTS)
    for number, found in enumerate(together):
        expected = sum(weight * each[number] for weight, each in zip(WEIGHTS, alone, strict=True)) / WEIGHTS.sum()
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_weights_of_one_change_nothing(method: Any) -> None:
    for with_weights, without in zip(loss_and_gradients(method, torch.ones(B)), loss_and_gradients(method, None), strict=True):
        torch.testing.assert_close(with_weights, without, atol=1e-6, rtol=1e-5)


def test_a_user_in_no_bucket_counts_neither_above_nor_below() -> None:
    """The loss of `sce` is a mean over the users that are in any bucket."""
    narrow = replace(NegativeConfig.for_method("sce"), step_loss=ScalableCrossEntropy(bucket_factor=0.5, bucket_items=4))
    objective = RetrievalObjective(narrow, torch.full((N,), 1 / N), temperature=0.1)

    def loss(weights: torch.Tensor) -> torch.Tensor:
        part = BatchPart(torch.arange(B), weights=weights)
        return objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(5), part)

    alone = torch.stack([loss(torch.eye(B)[row] + 1e-6) for row in range(B)])  # all others count next to nothing
    seen = torch.tensor([bool(loss(torch.eye(B)[row]).isfinite()) for row in range(B)])
    assert 0 < int(seen.sum()) < B
    expected = (WEIGHTS * alone)[seen].sum() / WEIGHTS[seen].sum()
    torch.testing.assert_close(loss(WEIGHTS), expected, atol=1e-4, rtol=1e-3)


def log() -> Sequences:
    """Three users; every second event is history only, the others count 1 to 9."""
    lengths = torch.tensor([7, 2, 6])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    items = torch.arange(15)
    weights = torch.where(items % 2 == 0, 0.0, 1 + items % 9).float()
    return Sequences(items, offsets, num_train=lengths - 1, num_validation=torch.zeros(3, dtype=torch.long), weights=weights)


@pytest.mark.parametrize("ordered", [True, False])
def test_batches_hold_the_targets_with_their_weights_and_the_history_without(ordered: bool) -> None:
    sequences = log()
    loader = Loader(sequences, batch_size=100, max_history=4, ordered=ordered)
    assert loader.weighted
    found = {}
    for batch in loader.epoch(0).batches():
        found |= dict(zip(batch.positives.tolist(), batch.weights.tolist(), strict=True))
        for items, weights in zip(batch.items_wE, batch.weights_wE, strict=True):
            assert all(weight == 0 for item, weight in zip(items.tolist(), weights.tolist(), strict=True) if item % 2 == 0)
    user, place = sequences.training_targets(ordered=ordered)
    assert found == dict(zip(sequences.items[place].tolist(), sequences.target_weights()[place].tolist(), strict=True))
    assert loader.num_targets >= len(found) > 0 and len(user) == len(found)
    frequency = loader.target_frequency(15)
    assert float(frequency.sum()) == pytest.approx(1) and not frequency[::2].any()


def test_only_targets_are_relevant_and_unwanted_items_are_never_found() -> None:
    sequences = log()
    assert sequences.evaluation_users("holdout").tolist() == []  # the last events are 6, 8 and 14: history only
    turned = Sequences(
        sequences.items,
        sequences.offsets,
        sequences.num_train,
        sequences.num_validation,
        weights=sequences.target_weights().flip(0),
        unwanted=(torch.tensor([0, 2, 2]), torch.tensor([50, 51, 52])),
    )
    users = turned.evaluation_users("holdout")
    assert users.tolist() == [user for user in range(3) if turned.target_weights()[turned.offsets[user + 1] - 1] > 0]
    row, item = turned.seen(users, "holdout")
    for place, user in enumerate(users.tolist()):
        start, end = int(turned.offsets[user]), int(turned.offsets[user + 1]) - 1
        unwanted = {0: [50], 1: [], 2: [51, 52]}[user]
        assert sorted(item[row == place].tolist()) == [*range(start, end), *unwanted]
    both = Sequences.cat([turned, turned])
    row, item = both.seen(torch.tensor([5, 0]), "holdout")
    assert {50} < set(item[row == 1].tolist()) and {51, 52} < set(item[row == 0].tolist())
    part = both.select(torch.tensor([3, 2]))
    assert part.unwanted is not None
    assert [values.tolist() for values in part.unwanted] == [[0, 1, 1], [50, 51, 52]]


def test_items_may_be_found_again() -> None:
    sequences = log()
    again = Sequences(sequences.items, sequences.offsets, sequences.num_train, sequences.num_validation, again=True)
    assert all(len(values) == 0 for values in again.seen(again.evaluation_users("holdout"), "holdout"))
