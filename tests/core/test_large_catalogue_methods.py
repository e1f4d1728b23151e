"""gBCE, SCE and RECE: each computed again from its formula, item by item; what they cost; and that they learn."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from esans_core import rece, sce
from esans_core.gbce import GeneralisedBinaryLoss
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from tests.core.largest_tensor import Largest

N, D, B, R, TAU = 61, 8, 23, 9, 0.1
ITEMS = normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=-1)
USERS = normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)), dim=-1)
POSITIVES = torch.arange(B) * 2
METHODS = ("gbce", "sce", "rece")


def objective_of(method: str, num_items: int = N, **own: object) -> RetrievalObjective:
    config = NegativeConfig.for_method(method, num_per_positive=R, own=own)
    return RetrievalObjective(config, torch.full((num_items,), 1 / num_items), temperature=TAU)


def loss_of(method: str, users: Tensor = USERS, items: Tensor = ITEMS, **own: object) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return objective_of(method, **own)(users, POSITIVES, lambda rows: items[rows], generator)


def compare(method: str, naive: Any, **own: object) -> None:
    """Loss and both gradients, next to those of a naive function of users and items."""
    found = []
    for loss_function in (naive, lambda users, items: loss_of(method, users, items, **own)):
        users, items = USERS.clone().requires_grad_(), ITEMS.clone().requires_grad_()
        loss = loss_function(users, items)
        loss.backward()
        found.append((loss.detach(), users.grad, items.grad))
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


# gBCE: Petrov and Macdonald, RecSys 2023.


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_gbce_is_the_papers_formula(t: float) -> None:
    drawn = torch.randint(N, (B, R), generator=torch.Generator().manual_seed(0))
    alpha = R / (N - 1)
    beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)

    def naive(users: Tensor, items: Tensor) -> Tensor:
        losses = []
        for b in range(B):
            score = torch.stack([users[b] @ items[j] / TAU for j in (POSITIVES[b], *drawn[b])]).double()
            others = [torch.log(1 - score[k + 1].sigmoid()) for k in range(R) if drawn[b, k] != POSITIVES[b]]
            losses.append(-(torch.log(score[0].sigmoid() ** beta) + sum(others)) / (R + 1))
        return torch.stack(losses).mean().float()

    assert (drawn == POSITIVES[:, None]).any(), "one of the draws must be the positive, which does not count"
    compare("gbce", naive, calibration=t)


@pytest.mark.parametrize(("t", "calibrated"), [(1.0, True), (0.0, False)])
def test_gbce_at_full_calibration_wants_the_true_probabilities_and_plain_bce_larger_ones(t: float, calibrated: bool) -> None:
    probability = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)
    logits = probability.logit().requires_grad_()  # sigmoid(logit) is the probability
    expected = torch.zeros((), dtype=torch.float64)
    for positive in range(5):
        sets = list(itertools.combinations([j for j in range(5) if j != positive], 2))
        for negatives in sets:
            loss = GeneralisedBinaryLoss(t).losses(logits[[positive]], logits[list(negatives)][None], 5)[0]
            expected = expected + probability[positive] / len(sets) * loss
    expected.backward()
    assert logits.grad is not None
    assert bool((logits.grad.abs() < 1e-12).all()) if calibrated else bool((logits.grad < -1e-3).all())


def test_gbce_refuses_a_calibration_that_is_no_share() -> None:
    with pytest.raises(ValueError, match="calibration lies between 0 and 1"):
        GeneralisedBinaryLoss(1.5)


# SCE: Mezentsev et al., RecSys 2024.


@pytest.mark.parametrize("block", [1 << 22, 40])  # the catalogue at once, and 13 items at a time
@pytest.mark.parametrize("mix", [False, True])
def test_sce_is_the_largest_loss_of_each_user_over_the_buckets(mix: bool, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sce, "_PRODUCTS", block)
    count, size = int(0.7 * math.sqrt(B)), 7
    draws = torch.randn(count, B if mix else D, generator=torch.Generator().manual_seed(0))
    chosen: set[int] = set()

    def naive(users: Tensor, items: Tensor) -> Tensor:
        worst: dict[int, Tensor] = {}
        for draw in draws:
            centre = sum(draw[b] * users[b].detach() for b in range(B)) if mix else draw
            members = sorted(range(B), key=lambda b: -float(centre @ users.detach()[b]))[:count]
            bucket = sorted(range(N), key=lambda j: -float(centre @ items.detach()[j]))[:size]
            chosen.update(bucket)
            for b in members:
                rows = [int(POSITIVES[b]), *(j for j in bucket if j != POSITIVES[b])]
                loss = cross_entropy(torch.stack([users[b] @ items[j] / TAU for j in rows]), torch.tensor(0))
                worst[b] = torch.maximum(worst.get(b, loss), loss)
        assert 1 < len(worst) < B, "some users are in a bucket, and some in none"
        return torch.stack(list(worst.values())).mean()

    own = {"bucket_factor": 0.7, "bucket_items": size, "mix": mix}
    compare("sce", naive, **own)
    items, encoded = ITEMS.clone().requires_grad_(), []

    def encode(rows: Tensor) -> Tensor:
        encoded.append((torch.is_grad_enabled(), sorted(rows.tolist())))
        return items[rows]

    objective_of("sce", **own)(USERS, POSITIVES, encode, torch.Generator().manual_seed(0))
    assert encoded == [(False, list(range(N))), (True, sorted(chosen | set(POSITIVES.tolist())))]


def test_sce_with_buckets_that_hold_everything_is_the_full_softmax() -> None:
    full = cross_entropy(USERS @ ITEMS.T / TAU, POSITIVES)
    assert float(loss_of("sce", bucket_factor=99.0, bucket_items=999)) == pytest.approx(float(full), rel=1e-5)
    with pytest.raises(ValueError, match="buckets need users and items"):
        sce.ScalableCrossEntropy(bucket_items=0)


# RECE: Gusak et al., CIKM 2024.


@pytest.mark.parametrize("block", [1 << 22, 40])
@pytest.mark.parametrize(("rounds", "neighbours"), [(1, 0), (3, 0), (2, 1)])
def test_rece_is_the_softmax_over_the_union_of_what_a_user_meets(
    rounds: int, neighbours: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rece, "_PRODUCTS", block)
    num_chunks = int((4 * (1 + 2 * neighbours) * B) ** 0.5)
    directions = torch.randn(rounds, num_chunks, D, generator=torch.Generator().manual_seed(0))
    twice = []

    def chunks(vectors: Tensor, of_round: Tensor) -> list[int]:
        buckets = [max(range(num_chunks), key=lambda k: float(of_round[k] @ vector)) for vector in vectors]
        order = sorted(range(len(buckets)), key=lambda row: (buckets[row], row))
        return [order.index(row) * num_chunks // len(buckets) for row in range(len(buckets))]

    def naive(users: Tensor, items: Tensor) -> Tensor:
        met: list[set[int]] = [set() for _ in range(B)]
        for of_round in directions:
            user_chunk, item_chunk = chunks(users.detach(), of_round), chunks(items.detach(), of_round)
            for b in range(B):
                now = {j for j in range(N) if abs(item_chunk[j] - user_chunk[b]) <= neighbours}
                twice.append(len(met[b] & now))
                met[b] |= now
        losses = []
        for b in range(B):
            rows = [int(POSITIVES[b]), *(met[b] - {int(POSITIVES[b])})]
            losses.append(cross_entropy(torch.stack([users[b] @ items[j] / TAU for j in rows]), torch.tensor(0)))
        return torch.stack(losses).mean()

    compare("rece", naive, rounds=rounds, neighbours=neighbours)
    assert (sum(twice) > 0) == (rounds > 1), "with more than one round, some items are met twice"


def test_rece_comes_to_the_full_softmax_with_its_rounds() -> None:
    full = float(cross_entropy(USERS @ ITEMS.T / TAU, POSITIVES))
    missing = [full - float(loss_of("rece", rounds=rounds)) for rounds in (1, 4, 16, 64)]
    assert all(less > more for less, more in itertools.pairwise(missing)) and abs(missing[-1]) < 1e-3
    with pytest.raises(ValueError, match="there must be a round"):
        rece.ReducedCrossEntropy(rounds=0)


# All of them.


@pytest.mark.parametrize(("method", "small"), [("sce", True), ("rece", True), ("full_softmax", False)])
def test_no_tensor_has_a_number_for_each_user_and_item(method: str, small: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, D, generator=generator).requires_grad_() for n in (256, 4096))
    objective, positives = objective_of(method, 4096), torch.arange(256)
    with Largest() as largest:
        objective(users, positives, lambda rows: torch.nn.functional.embedding(rows, items), generator).backward()
    assert (largest.numbers <= 256 * 4096 / 4) == small


@pytest.mark.parametrize("method", METHODS)
def test_they_learn_what_users_like(method: str) -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    user_table, item_table = torch.nn.Embedding(100, 16), torch.nn.Embedding(N, 16)
    optimizer = torch.optim.Adam([*user_table.parameters(), *item_table.parameters()], lr=0.06)
    objective = objective_of(method, **({"rounds": 2} if method == "rece" else {}))
    for _ in range(200):
        users = torch.randint(100, (64,), generator=generator)
        positives = users % 3 + 3 * torch.randint(N // 3, (64,), generator=generator)  # three tastes
        loss = objective(
            normalize(user_table(users), dim=-1), positives, lambda rows: normalize(item_table(rows), dim=-1), generator
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scores = normalize(user_table.weight, dim=-1) @ normalize(item_table.weight, dim=-1)[:60].T
    top = scores.topk(20).indices % 3 == torch.arange(100)[:, None] % 3  # each user likes 20 of the 60
    assert float(top.float().mean()) > 0.9
