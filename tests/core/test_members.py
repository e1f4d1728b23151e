"""Towers of several members: each learns as if it were alone, and together they score with the mean of their cosines."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from esans_core.cluster_index import ClusterIndex
from esans_core.loader import Loader
from esans_core.members import joined, part_of
from esans_core.negatives import METHODS, NegativeConfig
from esans_core.objective import BatchPart, RetrievalObjective
from esans_core.parts import Excerpts
from esans_core.sampler import SemanticNegativeSampler
from esans_core.sequences import Sequences
from esans_core.serving.export import export_user_tower
from esans_core.towers import Order, TwoTower
from esans_core.training import build_optimizers, train_epoch
from esans_core.world import World

N, D, B, MEMBERS = 60, 8, 12, 3
FREQUENCY = torch.softmax(torch.randn(N, generator=torch.Generator().manual_seed(2)), 0)
POSITIVES = torch.arange(B) * 4


def units(rows: int, seed: int) -> list[torch.Tensor]:
    """Unit vectors [rows, D] of each member."""
    generator = torch.Generator().manual_seed(seed)
    return [normalize(torch.randn(rows, D, generator=generator), dim=-1) for _ in range(MEMBERS)]


def objective_of(config: NegativeConfig, members: int) -> RetrievalObjective:
    index = ClusterIndex.from_labels(torch.arange(N) % 4, torch.arange(N) // 4 % 3)
    centroids = torch.randn(4, 5, generator=torch.Generator().manual_seed(3))
    sampler = SemanticNegativeSampler(index, centroids, num_hard=3)
    more: dict[str, Any] = {"sampler": sampler, "item_groups": torch.arange(N) % 4, "num_users": B, "members": members}
    return RetrievalObjective(config, FREQUENCY, temperature=0.1, **more)


@torch.no_grad()
def loss_of(
    config: NegativeConfig,
    users: torch.Tensor,
    items: torch.Tensor,
    wholes: torch.Tensor,
    members: int,
    generator: torch.Generator,
) -> float:
    excerpts = Excerpts(torch.arange(B) // 2, POSITIVES.view(-1, 2), wholes)
    part = BatchPart(torch.arange(B), excerpts)
    return float(objective_of(config, members)(users, POSITIVES, lambda rows: items[rows], generator, part))


def beside_popularity(vectors: torch.Tensor, values: torch.Tensor | None) -> torch.Tensor:
    return vectors if values is None else torch.cat([vectors, values[:, None]], dim=-1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("popular", [False, True])
def test_the_loss_is_the_mean_of_what_each_member_would_have_alone(method: Any, popular: bool) -> None:
    config = NegativeConfig.for_method(method, num_pool=32, num_per_positive=8)
    users, items, wholes = units(B, 1), units(N, 0), units(B // 2, 4)
    popularity = torch.linspace(-1, 1, N) if popular else None
    ones = torch.ones(B) if popular else None
    generator, alone = torch.Generator().manual_seed(0), []
    for user, item, whole in zip(users, items, wholes, strict=True):
        if config.step_loss is None:  # members score the same negatives; a loss of its own for the step draws for each of them
            generator.manual_seed(0)
        of_users, of_items = beside_popularity(user, ones), beside_popularity(item, popularity)
        of_wholes = beside_popularity(whole, None if ones is None else ones[: B // 2])
        alone.append(loss_of(config, of_users, of_items, of_wholes, 1, generator))
    together = loss_of(
        config,
        beside_popularity(joined(users), ones),
        beside_popularity(joined(items), popularity),
        beside_popularity(joined(wholes), None if ones is None else ones[: B // 2]),
        MEMBERS,
        generator.manual_seed(0),
    )
    assert together == pytest.approx(sum(alone) / MEMBERS, rel=1e-5)


def test_parts_are_what_was_joined_and_the_score_is_the_mean_of_their_cosines() -> None:
    users, items = units(B, 1), units(N, 0)
    for member, user in enumerate(users):
        assert torch.allclose(part_of(joined(users), member, MEMBERS), user, atol=1e-6)
    mean = torch.stack([user @ item.T for user, item in zip(users, items, strict=True)]).mean(0)
    assert torch.allclose(joined(users) @ joined(items).T, mean, atol=1e-6)


def towers(order: Order, members: int = 2, **more: Any) -> TwoTower:
    torch.manual_seed(0)
    content = torch.randn(N, 6)
    options: dict[str, Any] = {"dim": 16, "num_heads": 2, "max_history": 6, "dropout": 0.3, "id_dropout": 0.0} | more
    return TwoTower(content, torch.ones(N, dtype=torch.bool), order=order, members=members, **options)


def member_of(model: TwoTower, member: int) -> Any:
    return model.get_submodule(f"user_tower.towers.{member}")


@pytest.mark.parametrize("order", ["sequence", "set"])
def test_members_are_towers_of_their_own(order: Order, tmp_path: Path) -> None:
    model = towers(order).eval()
    histories = torch.randint(0, N, (5, 6), generator=torch.Generator().manual_seed(1))
    histories[0, 3:] = -1
    with torch.no_grad():
        users, items = model.encode_users(histories), model.encode_items(torch.arange(N))
        lengths = (users[:, :16].norm(dim=1), items[:, :16].norm(dim=1))
        assert all(torch.allclose(length, torch.ones_like(length), atol=1e-5) for length in lengths)
        inputs = model.context_input(histories.clamp_min(0))
        for member in range(2):
            part = inputs[..., member * 8 : (member + 1) * 8]
            own = member_of(model, member)(part, histories >= 0)
            assert torch.allclose(part_of(users, member, 2)[:, :8], own, atol=1e-5)
        export_user_tower(model, tmp_path / "tower.pt2")
        program = torch.export.load(tmp_path / "tower.pt2").module()
        assert torch.allclose(program(inputs, histories >= 0), users, atol=1e-5)


@pytest.mark.parametrize("order", ["sequence", "set"])
def test_a_member_learns_nothing_from_the_other(order: Order) -> None:
    """One member starts from other numbers; the other one learns the same, to the last bit."""
    items = torch.randint(0, N, (400,), generator=torch.Generator().manual_seed(5))
    log = Sequences(items, torch.arange(0, 401, 10), torch.full((40,), 9), torch.ones(40, dtype=torch.int64))
    learnt = []
    for change in (0.0, 1.0):
        model = towers(order, popularity=False)
        with torch.no_grad():
            model.item_input.id_embedding.weight[:, 8:] += change * torch.randn(N + 1, 8)
        loader = Loader(log, batch_size=64, max_history=6, ordered=order == "sequence")
        frequency = loader.target_frequency(N, torch.device("cpu"))
        config = NegativeConfig.for_method("debiased_mns", num_pool=32)
        objective = RetrievalObjective(config, frequency, temperature=0.1, learn_temperature=False, members=2)
        optimizers = build_optimizers(model, objective, learning_rate=1e-2, weight_decay=0.0)
        train_epoch(model, objective, loader, optimizers, seed=3, world=World())
        learnt.append(model.item_input.id_embedding.weight.detach().clone())
    assert torch.equal(learnt[0][:, :8], learnt[1][:, :8])
    assert not torch.equal(learnt[0][:, 8:], learnt[1][:, 8:])


def test_members_drop_other_numbers() -> None:
    first, second = (member_of(towers("sequence"), member).dropout.masks for member in range(2))
    assert not torch.equal(first, second)


def test_ids_of_every_member_start_from_the_same_vectors() -> None:
    model = towers("sequence")
    start = normalize(torch.randn(N, 8), dim=-1)
    model.item_input.start_from(start)
    ids = model.item_input.id_embedding.weight[:-1]
    assert torch.equal(ids[:, :8], ids[:, 8:])
    assert torch.allclose(normalize(ids[:, :8], dim=-1), start, atol=1e-5)


def test_without_means_only_the_latest_event_is_added() -> None:
    assert towers("sequence", members=1).user_tower.windows.shape == (4, 16)
    assert towers("sequence", members=1, history_means=False).user_tower.windows.shape == (1, 16)


def test_a_dimension_that_members_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"dim \(16\) must be divisible by members \(3\)"):
        towers("sequence", members=3)
