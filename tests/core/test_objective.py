"""The step's loss against one that draws the same negatives and makes every vector."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from esans_core.cluster_index import ClusterIndex
from esans_core.mixgcf import PositiveMixing
from esans_core.negative_sources import NegativeSources
from esans_core.negatives import METHODS, NegativeConfig
from esans_core.objective import BatchPart, RetrievalObjective
from esans_core.parts import Excerpts
from esans_core.sampler import SemanticNegativeSampler
from esans_core.shared_softmax import matches
from esans_core.towers import TwoTower
from esans_core.training import build_optimizers

N, D, B, TAU = 60, 8, 12, 0.1
ITEMS = normalize(torch.randn(N, D, generator=torch.Generator().manual_seed(0)), dim=-1)
USERS = normalize(torch.randn(B, D, generator=torch.Generator().manual_seed(1)), dim=-1)
POSITIVES = torch.arange(B) * 4
FREQUENCY = torch.softmax(torch.randn(N, generator=torch.Generator().manual_seed(2)), 0)


def sampler() -> SemanticNegativeSampler:
    index = ClusterIndex.from_labels(torch.arange(N) % 4, torch.arange(N) // 4 % 3)
    return SemanticNegativeSampler(index, torch.randn(4, 5, generator=torch.Generator().manual_seed(3)), num_hard=3)


def objective_of(config: NegativeConfig) -> RetrievalObjective:
    groups = torch.arange(N) % 4
    return RetrievalObjective(config, FREQUENCY, temperature=TAU, sampler=sampler(), item_groups=groups, num_users=B)


def loss_of(config: NegativeConfig, seed: int = 0, items: torch.Tensor = ITEMS) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return objective_of(config)(USERS, POSITIVES, lambda rows: items[rows], generator, BatchPart(torch.arange(B)))


def full_softmax() -> torch.Tensor:
    return torch.nn.functional.cross_entropy(USERS @ ITEMS.T / TAU, POSITIVES)


def test_in_batch_loss_matches_a_loop() -> None:
    config = NegativeConfig(in_batch=True, num_pool=0, semantic=False)
    total = 0.0
    for i in range(B):
        logits = [float(USERS[i] @ ITEMS[j]) / TAU for j in POSITIVES]
        corrected = [
            value - math.log((B - 1) * float(FREQUENCY[j])) if k != i else value
            for k, (value, j) in enumerate(zip(logits, POSITIVES, strict=True))
        ]
        total += math.log(sum(map(math.exp, corrected))) - logits[i]
    assert float(loss_of(config)) == pytest.approx(total / B, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_correction_takes_off_that_share_of_the_log_count(share: float) -> None:
    config = NegativeConfig(in_batch=True, num_pool=0, semantic=False, log_q=share)
    logits = USERS @ ITEMS[POSITIVES].T / TAU
    corrected = logits - share * ((B - 1) * FREQUENCY[POSITIVES]).log()
    corrected.diagonal().copy_(logits.diagonal())
    expected = torch.nn.functional.cross_entropy(corrected, torch.arange(B))
    assert float(loss_of(config)) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_under_bfloat16_autocast_only_the_products_are_rounded(method: Any) -> None:
    config = NegativeConfig.for_method(method, num_pool=32, num_per_positive=8)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss_of(config)
    assert mixed.dtype == torch.float32
    # cosines over the temperature reach 10, where a step of bfloat16 is 1/16; the mean of a batch is closer
    assert float(mixed) == pytest.approx(float(loss_of(config)), abs=0.02)


@pytest.mark.parametrize("normalise", [True, False])
def test_semantic_loss_matches_materialised_vectors(normalise: bool) -> None:
    config = NegativeConfig(
        in_batch=False,
        num_pool=0,
        share_draws=False,
        lambda_low=0.2,
        lambda_high=0.2,
        virtual_weight=0.5,
        normalise_virtual=normalise,
    )
    from esans_core.interpolation import simple_weights

    draw, generator = sampler(), torch.Generator().manual_seed(0)
    draws = draw.sample(POSITIVES, generator)
    weights = simple_weights(draws.easy_BCM.shape[:2], 5, generator=generator)
    total = 0.0
    for i in range(B):
        rows = torch.cat([draws.easy_BCM[i].flatten(), draws.hard_BH[i]])
        count = draw.expected_counts(POSITIVES[i : i + 1], rows[None])[0]
        vectors, log_count = [ITEMS[rows]], [count.log()]
        for c in range(2):
            made = weights[i, c] @ ITEMS[draws.easy_BCM[i, c]]
            vectors.append(normalize(made, dim=-1) if normalise else made)
            log_count.append(weights[i, c] @ count[c * 5 : c * 5 + 5].log() - math.log(0.5))
        made = 0.2 * ITEMS[POSITIVES[i]] + 0.8 * ITEMS[draws.hard_BH[i]]
        vectors.append(normalize(made, dim=-1) if normalise else made)
        log_count.append(0.8 * count[10:].log() - math.log(0.5))
        negative = torch.cat(vectors) @ USERS[i] / TAU - torch.cat(log_count)
        positive = USERS[i] @ ITEMS[POSITIVES[i]] / TAU
        total += float(torch.logsumexp(torch.cat([positive[None], negative]), 0) - positive)
    assert float(loss_of(config)) == pytest.approx(total / B, rel=1e-4)


def test_corrected_losses_agree_with_the_full_softmax_on_average() -> None:
    real_only = {"simple_interpolation": False, "hard_interpolation": False, "in_batch": False}
    for config in (
        NegativeConfig.for_method("esans", num_pool=256, **real_only),
        NegativeConfig.for_method("esans", num_pool=256, share_draws=True, **real_only),
        NegativeConfig(num_pool=512, semantic=False, in_batch=False),
        NegativeConfig.for_method("uniform", num_per_positive=256),
        NegativeConfig.for_method("popularity", num_per_positive=512),
        NegativeConfig(num_per_positive=256, proposal="fair", semantic=False, in_batch=False, num_pool=0),
    ):
        mean = torch.stack([loss_of(config, seed) for seed in range(40)]).mean()
        assert abs(float(mean - full_softmax())) < 0.03, config


@pytest.mark.parametrize("shared", [False, True])
def test_half_the_correction_leaves_popularity_in_and_nothing_of_the_sampler(shared: bool) -> None:
    config = NegativeConfig(
        in_batch=False,
        num_pool=0,
        num_per_positive=256,
        proposal="popularity",
        share_draws=shared,
        simple_interpolation=False,
        hard_interpolation=False,
        log_q=0.5,
    )
    share_N = FREQUENCY**config.popularity_exponent
    counts_N = 256 * share_N / share_N.sum() + sampler().num_draws * (B if shared else 1) / len(FREQUENCY)
    logits = USERS @ ITEMS.T / TAU
    weighted = logits + 0.5 * counts_N.log()
    weighted[torch.arange(B), POSITIVES] = logits[torch.arange(B), POSITIVES]
    expected = torch.nn.functional.cross_entropy(weighted, POSITIVES)
    mean = torch.stack([loss_of(config, seed) for seed in range(40)]).mean()
    assert float(mean) == pytest.approx(float(expected), abs=0.03)


def test_the_whole_catalogue_is_the_full_softmax() -> None:
    assert float(loss_of(NegativeConfig.for_method("full_softmax"))) == pytest.approx(float(full_softmax()), rel=1e-6)


def test_methods_fix_what_makes_them_what_they_are() -> None:
    for method in METHODS:
        config = NegativeConfig.for_method(method, num_per_positive=6, num_hardest=2, num_pool=16, num_cached=32)
        assert config.semantic == method.startswith("esans")
        assert loss_of(config).isfinite()
    assert not NegativeConfig.for_method("esans_paper").log_q
    assert NegativeConfig.for_method("esans_paper").virtual_weight == 1.0
    assert NegativeConfig.for_method("debiased_mns", num_pool=7).num_pool == 7
    uniform = NegativeConfig.for_method("uniform", num_pool=7, num_hardest=3)
    assert (uniform.in_batch, uniform.num_pool, uniform.num_per_positive, uniform.num_hardest) == (False, 0, 16, 0)
    assert NegativeConfig.for_method("dns").num_hardest == 4
    assert NegativeConfig.for_method("mixgcf").mixing == PositiveMixing()


def test_what_is_missing_or_unknown_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown method"):
        NegativeConfig.for_method("other")
    with pytest.raises(ValueError, match="no such field: num_pools"):
        NegativeConfig.for_method("mns", num_pools=3)
    with pytest.raises(ValueError, match="no negatives"):
        NegativeConfig(in_batch=False, num_pool=0, semantic=False)
    with pytest.raises(ValueError, match="share of the correction"):
        NegativeConfig(log_q=1.5)
    with pytest.raises(ValueError, match="cached negatives take no gradient"):
        NegativeConfig(num_cached=8, in_batch=False, num_pool=0, semantic=False)
    with pytest.raises(ValueError, match="takes the place"):
        NegativeConfig(all_items=True)
    with pytest.raises(ValueError, match="needs a SemanticNegativeSampler"):
        RetrievalObjective(NegativeConfig(), FREQUENCY, temperature=TAU)
    with pytest.raises(ValueError, match="item_groups"):
        RetrievalObjective(NegativeConfig.for_method("fairneg"), FREQUENCY, temperature=TAU)
    with pytest.raises(ValueError, match="num_users"):
        RetrievalObjective(NegativeConfig.for_method("adap_tau"), FREQUENCY, temperature=TAU)
    with pytest.raises(ValueError, match="user_rows"):
        objective_of(NegativeConfig.for_method("adap_tau"))(USERS, POSITIVES, lambda rows: ITEMS[rows])


def test_only_the_hardest_count() -> None:
    config = NegativeConfig.for_method("dns", num_per_positive=9, num_hardest=2)
    drawn = torch.randint(N, (B, 9), generator=torch.Generator().manual_seed(0))
    logits = torch.einsum("bd,brd->br", USERS, ITEMS[drawn]) / TAU
    logits[drawn == POSITIVES[:, None]] = -torch.inf
    hardest = logits.sort(dim=1, descending=True).values[:, :2]
    positive = (USERS * ITEMS[POSITIVES]).sum(1, keepdim=True) / TAU
    expected = (torch.logsumexp(torch.cat([positive, hardest], dim=1), 1) - positive[:, 0]).mean()
    assert float(loss_of(config)) == pytest.approx(float(expected), rel=1e-5)


def test_items_of_the_positives_own_group_can_weigh_less_in_the_pool() -> None:
    index = sampler().index
    same = (index.group(POSITIVES)[:, None] == index.group(torch.arange(N))[None]) & (torch.arange(N) != POSITIVES[:, None])
    logits = USERS @ ITEMS.T / TAU
    for weight in (0.0, 0.3, 1.0):
        config = NegativeConfig(all_items=True, in_batch=False, num_pool=0, semantic=False, log_q=0.0, same_group_weight=weight)
        weighted = logits + torch.where(same, math.log(weight) if weight else -torch.inf, 0.0)
        expected = torch.nn.functional.cross_entropy(weighted, POSITIVES)
        assert float(loss_of(config)) == pytest.approx(float(expected), rel=1e-5)


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


OF_ROW = torch.arange(B) // 4
EXCERPTS = Excerpts(OF_ROW, torch.cat([POSITIVES.view(3, 4), torch.tensor([[1, 2, -1], [7, -1, -1], [9, 8, 3]])], dim=1))


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


def test_a_learnt_temperature_moves_down_its_gradient_and_stops_at_the_least() -> None:
    config = NegativeConfig.for_method("debiased_mns", num_pool=40)
    objective = objective_of(config)

    def at(log_temperature: float) -> float:
        objective.log_temperature.data.fill_(log_temperature)
        return float(objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0)).detach())

    start = math.log(TAU)
    slope = (at(start + 1e-2) - at(start - 1e-2)) / 2e-2
    at(start)
    objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0)).backward()
    assert float(objective.log_temperature.grad) == pytest.approx(slope, rel=1e-2)  # type: ignore[arg-type]
    assert float(objective.temperature) == pytest.approx(TAU)
    objective.log_temperature.data.fill_(-50.0)
    assert float(objective.temperature) == pytest.approx(0.01)


def test_a_temperature_is_learnt_unless_it_is_fixed_or_adapts_to_each_user() -> None:
    def learns(method: str, **values: Any) -> bool:
        config = NegativeConfig.for_method(method)
        objective = RetrievalObjective(config, FREQUENCY, temperature=TAU, num_users=B, sampler=sampler(), **values)
        model = TwoTower(torch.zeros(N, 2), torch.ones(N, dtype=torch.bool), dim=4, max_history=3)
        (optimizer,) = build_optimizers(model, objective, learning_rate=1e-3, weight_decay=0.1)
        last = optimizer.param_groups[-1]
        assert last["params"] == [objective.log_temperature] and last["weight_decay"] == 0
        return objective.log_temperature.requires_grad

    assert learns("in_batch") and not learns("in_batch", learn_temperature=False) and not learns("adap_tau")


def test_gradients_reach_every_drawn_item_and_only_those() -> None:
    items = ITEMS.clone().requires_grad_()
    loss_of(NegativeConfig(in_batch=False, num_pool=0), items=items).backward()
    touched = set(torch.nonzero(items.grad.abs().sum(1)).flatten().tolist())
    draws = sampler().sample(POSITIVES, torch.Generator().manual_seed(0))
    assert touched == set(torch.cat([POSITIVES, draws.easy_BCM.flatten(), draws.hard_BH.flatten()]).tolist())


def test_items_without_a_cluster_still_train() -> None:
    index = ClusterIndex.from_labels(torch.full((N,), -1), torch.full((N,), -1), 4)
    objective = RetrievalObjective(
        NegativeConfig(num_pool=8), FREQUENCY, temperature=TAU, sampler=SemanticNegativeSampler(index, torch.zeros(4, 2))
    )
    assert objective(USERS, POSITIVES, lambda rows: ITEMS[rows], torch.Generator().manual_seed(0)).isfinite()


def test_every_method_is_described() -> None:
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text()
    assert all(f"| `{method}`" in page for method in METHODS)


def test_matches_are_all_equal_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    wanted, items = torch.randint(9, (20,), generator=generator), torch.randint(12, (31,), generator=generator)
    found = set(zip(*(part.tolist() for part in matches(wanted, items)), strict=True))
    assert found == set(map(tuple, (wanted[:, None] == items).nonzero().tolist()))
    assert matches(wanted + 50, items)[0].numel() == 0


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
