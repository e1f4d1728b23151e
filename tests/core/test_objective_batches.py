"""What a batch knows besides its positives: equal draws, a cache, excerpts of histories, and a device that must not wait."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from esans_core.negative_sources import NegativeSources
from esans_core.negatives import METHODS, NegativeConfig
from esans_core.objective import BatchPart
from esans_core.parts import Excerpts
from tests.core.toy_loss import FREQUENCY, ITEMS, POSITIVES, TAU, USERS, B, N, objective_of

OF_ROW = torch.arange(B) // 4
EXCERPTS = Excerpts(OF_ROW, torch.cat([POSITIVES.view(3, 4), torch.tensor([[1, 2, -1], [7, -1, -1], [9, 8, 3]])], dim=1))


@pytest.mark.parametrize("method", ["esans", "debiased_mns", "mns", "cross_batch"])
def test_merging_equal_shared_negatives_changes_nothing(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = NegativeConfig.for_method(method, num_pool=3 * N, share_draws=True, same_group_weight=0.5, num_cached=2 * B)
    found = []
    for worth in (4, 0):  # merged, and every copy for itself
        monkeypatch.setattr("esans_core.negative_sources._WORTH_MERGING", worth)
        items = ITEMS.clone().requires_grad_()
        objective, positives = objective_of(config), torch.cat([POSITIVES[: B // 2], POSITIVES[: B // 2]])
        for seed in range(2):  # the second step has cached negatives, where the method caches
            loss = objective(USERS, positives, lambda rows, items=items: items[rows], torch.Generator().manual_seed(seed))
        loss.backward()
        found.append((loss.detach(), items.grad))
    torch.testing.assert_close(*found)


def test_the_cache_holds_the_latest_positives_as_they_were() -> None:
    objective = objective_of(NegativeConfig.for_method("cross_batch", num_cached=B + 4))
    first = float(objective(USERS, POSITIVES, lambda rows: ITEMS[rows]))
    moved = normalize(ITEMS + 0.5, dim=-1)
    later = POSITIVES + 1
    loss = objective(USERS, later, lambda rows: moved[rows])
    users = USERS / TAU
    total = 0.0
    for i in range(B):
        logits = [users[i] @ moved[j] - math.log(FREQUENCY[j] * (2 * B - 1)) for j in later if j != later[i]]
        logits += [users[i] @ ITEMS[j] - math.log(FREQUENCY[j] * (2 * B - 1)) for j in POSITIVES if j != later[i]]
        positive = users[i] @ moved[later[i]]
        total += float(torch.logsumexp(torch.stack([positive, *logits]), 0) - positive)
    assert float(loss) == pytest.approx(total / B, rel=1e-4)
    assert objective.cache is not None and len(objective.cache) == B + 4
    other = objective_of(objective.config)
    other.load_state_dict(objective.state_dict())  # whatever the length of what is cached
    assert other.cache is not None and torch.equal(other.cache.vectors, objective.cache.vectors)
    objective.end_epoch()
    assert len(objective.cache) == 0
    assert float(objective(USERS, POSITIVES, lambda rows: ITEMS[rows])) == pytest.approx(first)


def test_users_learn_from_cached_items_and_items_from_the_batch_alone() -> None:
    def gradients(method: str) -> list[torch.Tensor]:
        users, items = USERS.clone().requires_grad_(), ITEMS.clone().requires_grad_()
        objective = objective_of(NegativeConfig.for_method(method, num_cached=B))
        for positives in (POSITIVES, POSITIVES + 1):
            objective(users, positives, lambda rows: items[rows]).backward()
            found = [users.grad, items.grad]
            users.grad = items.grad = None
        return found

    (users, items), (other_users, other_items) = gradients("cross_batch"), gradients("in_batch_logq")
    torch.testing.assert_close(items, other_items)
    assert (users - other_users).abs().max() > 0.01

    def both(users: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([POSITIVES + 1, POSITIVES])
        logits = users @ ITEMS[rows].T / TAU - (FREQUENCY[rows] * (2 * B - 1)).log()
        own = (users * ITEMS[POSITIVES + 1]).sum(-1, keepdim=True) / TAU
        logits = logits.masked_fill(rows == POSITIVES[:, None] + 1, -torch.inf)
        return torch.nn.functional.cross_entropy(torch.cat([own, logits], 1), torch.zeros(B, dtype=torch.long))

    torch.testing.assert_close(users, torch.func.grad(both)(USERS))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("may_look", [False, True])
def test_items_of_an_excerpt_are_no_negatives_of_its_rows(whole: bool, may_look: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With users of whole excerpts, all rows of an excerpt are scored against these; else each against its own."""
    monkeypatch.setattr(NegativeSources, "may_look", may_look)
    config = NegativeConfig.for_method("debiased_mns", num_pool=40)
    users_wD = USERS[[0, 5, 9]]
    part = BatchPart(excerpts=replace(EXCERPTS, users_wD=users_wD if whole else None))
    objective = objective_of(config)
    drawn = objective.sources.draw(POSITIVES, torch.Generator().manual_seed(0))
    pool, known = drawn.shared_S, EXCERPTS.items_wE[OF_ROW]
    logits = (users_wD[OF_ROW] if whole else USERS) @ ITEMS[pool].T / TAU - (FREQUENCY[pool] * (B - 1) + 40 / N).log()
    logits = logits.masked_fill((pool == known[:, :, None]).any(1), -torch.inf)
    own = (USERS * ITEMS[POSITIVES]).sum(-1, keepdim=True) / TAU
    expected = torch.nn.functional.cross_entropy(torch.cat([own, logits], 1), torch.zeros(B, dtype=torch.long))
    loss = objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0), part)
    assert float(loss.detach()) == pytest.approx(float(expected), rel=1e-5)


def test_rows_whose_negatives_weigh_differently_are_scored_one_by_one() -> None:
    part = BatchPart(torch.arange(B), excerpts=EXCERPTS)
    whole = replace(part, excerpts=replace(EXCERPTS, users_wD=USERS[[0, 5, 9]]))

    def losses(method: str, **values: Any) -> list[float]:
        config = NegativeConfig.for_method(method, num_cached=B, **values)
        objectives = [(objective_of(config), each) for each in (part, whole)]
        for objective, _ in objectives:  # so that a cache is not empty
            objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0), part)
        return [
            float(objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(1), each).detach())
            for objective, each in objectives
        ]

    alike = [losses("esans", same_group_weight=0.5), losses("cross_batch"), losses("esans_paper"), losses("adap_tau")]
    assert all(one == other for one, other in alike)
    one, other = losses("esans")
    assert one != other


class Waits(TorchDispatchMode):
    """Names the operations after which a GPU's host would wait: their result, or its size, depends on data."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
            waits = any(index is not None and index.dtype == torch.bool for index in args[1])
        else:
            # Told how long its result is, an operation need not find out.
            told = kwargs.get("output_size") is not None
            waits = not told and bool({torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output} & set(func.tags))
        self.seen += [str(func)] if waits else []
        return func(*args, **kwargs)


def step_of(
    config: NegativeConfig, monkeypatch: pytest.MonkeyPatch, *, may_look: bool, whole: bool
) -> tuple[float, torch.Tensor, list[str]]:
    """Loss, gradient of the items, and what made the host wait, of the second of two training steps."""
    monkeypatch.setattr(NegativeSources, "may_look", may_look)
    objective, items, generator = objective_of(config), ITEMS.clone().requires_grad_(), torch.Generator().manual_seed(0)
    excerpts = replace(EXCERPTS, users_wD=USERS[[0, 5, 9]] if whole else None)
    part, waits = BatchPart(torch.arange(B), excerpts), Waits()
    objective(USERS, POSITIVES, lambda rows: torch.nn.functional.embedding(rows, items), generator, part)
    with waits:
        loss = objective(USERS, POSITIVES, lambda rows: torch.nn.functional.embedding(rows, items), generator, part)
        loss.backward()
    assert items.grad is not None
    return float(loss.detach()), items.grad, waits.seen


@pytest.mark.parametrize("num_pool", [7, 200])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_never_waits_and_gets_the_same_loss(
    method: str, whole: bool, num_pool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = NegativeConfig.for_method(method, num_pool=num_pool, num_cached=B, share_draws=True)
    loss, grad, waits = step_of(config, monkeypatch, may_look=True, whole=whole)
    assert waits or method == "rece", "on a CPU it pays to look, unless every item is encoded anyway"
    there = step_of(config, monkeypatch, may_look=False, whole=whole)
    assert there[2] == []
    assert there[0] == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(there[1], grad, rtol=1e-4, atol=1e-6)
