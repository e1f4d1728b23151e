"""Every source that claims a correction, by a chi-square test on what it draws for batches of a real loader."""

import pytest
import torch
from torch.nn.functional import normalize

from esans_core.cluster_index import ClusterIndex
from esans_core.loader import Loader
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.parts import StepOutcome
from esans_core.sampler import SemanticNegativeSampler
from esans_core.semantic_rows import SemanticRows
from esans_core.sequences import Sequences
from esans_core.sources import InBatch

N, USERS, B = 40, 1500, 32
TRIALS = 1500
# Covariances between the items of one draw of a cluster widen a chi-square statistic: its variance, over that of free draws.
WIDENED = 10


def log() -> Sequences:
    """Everybody begins with one of four items that seldom come later, and goes on with one of a skewed popularity."""
    generator = torch.Generator().manual_seed(0)
    items = torch.multinomial(1 / (torch.arange(N) + 5.0), 4 * USERS, replacement=True, generator=generator)
    items[::4] = N - 1 - torch.arange(USERS) % 4
    train, one = torch.full((USERS,), 2), torch.ones(USERS, dtype=torch.long)
    return Sequences(items, torch.arange(USERS + 1) * 4, train, one)


def chi_square(observed: torch.Tensor, expected: torch.Tensor, widened: float = 1.0) -> float:
    """How many standard deviations the statistic lies above its mean."""
    assert (observed[expected == 0] == 0).all()
    counted = expected > 0
    freedom = int(counted.sum())
    statistic = ((observed - expected).square() / expected)[counted].sum()
    return float(statistic - freedom) / (2 * freedom * widened) ** 0.5


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader(log(), batch_size=B, max_history=4)


def objective_of(config: NegativeConfig, frequency: torch.Tensor) -> RetrievalObjective:
    index = ClusterIndex.from_labels(torch.arange(N) % 4, torch.arange(N) // 4 % 3)
    sampler = SemanticNegativeSampler(index, torch.randn(4, 5, generator=torch.Generator().manual_seed(3)), max_near_clusters=2)
    groups = torch.arange(N) % 3
    return RetrievalObjective(config, frequency, temperature=0.2, sampler=sampler, item_groups=groups)


def batches(loader: Loader, count: int) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    for seed in range(count):
        found += [batch.positives for batch in loader.epoch(seed).batches() if len(batch.positives) == B]
        if len(found) >= count:
            break
    return found[:count]


NONE = {"in_batch": False, "num_pool": 0, "semantic": False, "share_draws": False}
CORRECTED = {
    "in-batch": NONE | {"in_batch": True},
    "pool": NONE | {"num_pool": 24},
    "uniform": NONE | {"num_per_positive": 16},
    "popularity": NONE | {"num_per_positive": 16, "proposal": "popularity"},
    "fair": NONE | {"num_per_positive": 16, "proposal": "fair"},
    "easy": NONE | {"semantic": True},
    "shared draws": NONE | {"semantic": True, "share_draws": True},
    "all together": {"num_pool": 24, "num_per_positive": 8, "proposal": "popularity", "share_draws": True},
    "all together, draws not shared": {"num_pool": 24, "num_per_positive": 8, "share_draws": False},
}


def observed_and_expected(objective: RetrievalObjective, loader: Loader) -> tuple[torch.Tensor, torch.Tensor]:
    """Over many batches, what is drawn for the first positive and how often it was expected; its own item aside."""
    observed, expected, items = torch.zeros(N), torch.zeros(N), torch.arange(N)
    generator, shared = torch.Generator().manual_seed(1), objective.config.share_draws
    for positives in batches(loader, TRIALS):
        drawn = objective.sources.draw(positives, generator)
        rows = [each.items_BR[0] for each in drawn.rows if not (shared and isinstance(each, SemanticRows))]
        counted = torch.bincount(torch.cat([*rows, items[:0]]), minlength=N).float()
        counted.index_add_(0, drawn.shared_S, drawn.copies_S)
        counts = objective.sources.log_counts(objective.sources.expected(positives, items), positives[:1], items)
        mine = items != positives[0]
        observed += counted * mine
        expected += counts.exp().view(-1) * mine
    return observed, expected


@pytest.mark.parametrize("name", CORRECTED)
def test_draws_are_as_frequent_as_the_correction_says(loader: Loader, name: str) -> None:
    objective = objective_of(NegativeConfig(**CORRECTED[name]), loader.target_frequency(N))  # type: ignore[arg-type]
    if name == "fair":  # shares that have moved
        losses = torch.tensor([9.0, 1, 1, 9, 1, 2])
        for part in objective.sources.parts:
            part.observe(StepOutcome(torch.arange(6), losses, lambda: losses, torch.zeros(6, 2), None, lambda own: own))  # type: ignore[operator]
    observed, expected = observed_and_expected(objective, loader)
    widened = WIDENED if objective.config.semantic else 1
    assert chi_square(observed, expected, widened) < 5
    assert float(observed.sum()) == pytest.approx(float(expected.sum()), rel=0.01)


def test_events_that_can_be_no_target_are_not_counted(loader: Loader) -> None:
    data = log()
    owner = torch.repeat_interleave(torch.arange(USERS), data.offsets.diff())
    trained = torch.arange(len(data.items)) - data.offsets[:-1][owner] < data.num_train[owner]
    events = torch.bincount(data.items[trained], minlength=N) / int(trained.sum())
    frequency = loader.target_frequency(N)
    assert float(frequency.sum()) == pytest.approx(1.0)
    assert float((events - frequency).abs().sum() / 2) > 0.1
    objective = objective_of(NegativeConfig(**CORRECTED["in-batch"]), events)  # type: ignore[arg-type]
    assert chi_square(*observed_and_expected(objective, loader)) > 50


def test_cached_negatives_are_as_frequent_as_the_correction_says(loader: Loader) -> None:
    num_cached = 3 * B
    config = NegativeConfig(**NONE | {"in_batch": True, "num_cached": num_cached})  # type: ignore[arg-type]
    objective = objective_of(config, loader.target_frequency(N))
    vectors, users = normalize(torch.randn(N, 2), dim=1), normalize(torch.randn(B, 2), dim=1)
    observed, expected, items = torch.zeros(N), torch.zeros(N), torch.arange(N)
    for seed in range(20):
        objective.begin_epoch()
        for number, batch in enumerate(loader.epoch(seed).batches()):
            mine = items != batch.positives[0]
            if number > 3 and len(batch.positives) == B:
                assert objective.cache is not None and len(objective.cache) == num_cached
                with_cache = objective.sources.expected(batch.positives, items, [objective.cache])
                observed += torch.bincount(objective.cache.items, minlength=N) * mine
                expected += (with_cache.counts - objective.sources.expected(batch.positives, items).counts) * mine
            objective(users[: len(batch.positives)], batch.positives, lambda rows: vectors[rows])
    # Each positive stays for three steps: the counts of neighbouring steps are those of the same events.
    assert chi_square(observed / 3, expected / 3) < 5


def test_of_a_small_log_the_count_in_a_batch_is_exact_to_one_in_its_targets() -> None:
    """Rows are drawn without replacement: beside a positive stand B - 1 of the T - 1 other targets, n (B - 1) / (T - 1) of an
    item with n targets that is not the positive's own. The correction says n (B - 1) / T."""
    items = torch.tensor([0, 1, 0, 2, 0, 2, 0, 1, 0, 1, 0, 1])
    small = Sequences.past(items, torch.arange(7) * 2)
    loader = Loader(small, batch_size=3, max_history=2)
    total = loader.num_targets
    frequency = loader.target_frequency(3)
    torch.testing.assert_close(frequency * total, torch.tensor([0.0, 4.0, 2.0]))
    observed, seen = torch.zeros(3), 0
    for seed in range(2000):
        for batch in loader.epoch(seed).batches():
            for row in torch.nonzero(batch.positives == 1).flatten().tolist():
                others = torch.cat([batch.positives[:row], batch.positives[row + 1 :]])
                observed, seen = observed + torch.bincount(others, minlength=3), seen + 1
    exact = float(frequency[2]) * 2 * total / (total - 1)
    assert float(observed[2] / seen) == pytest.approx(exact, rel=0.03)


def test_a_user_with_several_targets_is_off_by_their_share_of_the_batch() -> None:
    """A user's own other items are no negatives: of B targets, B - m are drawn beside one of m. The correction says B - 1."""
    generator = torch.Generator().manual_seed(0)
    items = torch.stack([torch.randperm(N, generator=generator)[:5] for _ in range(400)])
    loader = Loader(Sequences.past(items.flatten(), torch.arange(401) * 5), batch_size=40, max_history=4)
    source, observed, expected = InBatch(loader.target_frequency(N)), 0.0, 0.0
    for batch in loader.epoch(0).batches():
        for excerpt, positive in zip(batch.excerpt_of_target.tolist(), batch.positives.tolist(), strict=True):
            mine = torch.zeros(N, dtype=torch.bool)
            mine[batch.items_wE[excerpt]] = True
            assert mine[positive]
            observed += float((~mine[batch.positives]).sum())
            expected += float(source.expected_counts(batch.positives, torch.arange(N))[~mine].sum())
    assert observed / expected == pytest.approx((40 - 4) / (40 - 1), rel=0.02)


def test_a_sample_of_users_is_counted_alone_and_blocks_add_up() -> None:
    data = log()
    whole = Loader(data, batch_size=B, max_history=4)
    some = Loader(data, batch_size=B, max_history=4, sample_fraction=0.4, sample_seed=3)
    expected = torch.zeros(N)
    for batch in some.epoch(0).batches():
        expected += torch.bincount(batch.positives, minlength=N)
    # The last batch holds what is left, so an epoch is every target once.
    assert some.epoch(0).num_left_out == 0 and some.num_targets < whole.num_targets
    torch.testing.assert_close(some.target_frequency(N), expected / some.num_targets)
    with pytest.raises(ValueError, match="expected less than num_items = 5"):
        whole.target_frequency(5)
