"""What is known of users beside events: how it enters the towers, and that a new user profits from it."""

import torch
from torch.nn import functional

from esans_core.attributes import AttributeEncoder
from esans_core.evaluation import evaluate
from esans_core.loader import Loader
from esans_core.negatives import NegativeConfig
from esans_core.objective import RetrievalObjective
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower
from esans_core.training import build_optimizers, train_epoch
from esans_core.user_input import UserInput, user_statistics

GROUPS, ITEMS, USERS, NEW = 4, 80, 240, 80
REGIONS = ["north", "south", "east", None]


def log(*, regions: list[str | None] | None = None) -> Sequences:
    """Users like one group of items; which one depends on their region alone. The last ones have hold-out events only."""
    generator = torch.Generator().manual_seed(0)
    given = regions or [REGIONS[user % GROUPS] for user in range(USERS)]
    group = torch.arange(USERS) % GROUPS
    items = group[:, None] + GROUPS * torch.stack([torch.randperm(ITEMS // GROUPS, generator=generator)[:8] for _ in group])
    past = torch.where(torch.arange(USERS) < USERS - NEW, 6, 0)
    keep = [row if known else row[:2] for row, known in zip(items, past, strict=True)]
    lengths = torch.tensor([len(row) for row in keep])
    encoder = AttributeEncoder({"region": ("text", 64)})
    features = torch.from_numpy(encoder.encode({"region": given}))
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Sequences(torch.cat(keep), offsets, past, torch.zeros(USERS, dtype=torch.long), features=features)


def towers(data: Sequences, order: str, **options: object) -> TwoTower:
    torch.manual_seed(0)
    model = TwoTower(torch.zeros(ITEMS, 1), torch.ones(ITEMS) > 0, order=order, dim=16, max_history=8, **options)  # type: ignore[arg-type]
    if model.user_input is not None:
        mean, std, _ = user_statistics(data) or ()
        model.user_input.standardise_by(mean, std)
    return model


def trained(data: Sequences, order: str, epochs: int = 12, **options: object) -> TwoTower:
    model = towers(data, order, **options)
    loader = Loader(data, batch_size=64, max_history=8, ordered=order == "sequence")
    objective = RetrievalObjective(
        NegativeConfig.for_method("uniform", num_pool=40), loader.target_frequency(ITEMS), temperature=0.1
    )
    optimizers = build_optimizers(model, objective, learning_rate=0.01, weight_decay=0.0)
    for epoch in range(epochs):
        train_epoch(model, objective, loader, optimizers, seed=epoch)
    return model.eval()


def test_new_users_are_served_by_what_is_known_of_them() -> None:
    data = log()
    for order in ("sequence", "set"):
        found = {}
        for name, options in {"events alone": {}, "with features": {"num_user_features": 64}}.items():
            result = evaluate(trained(data, order, **options), data, "holdout", ks=(10,), new_users=True)
            assert result.users.tolist() == [user for user in range(USERS - NEW, USERS) if user % GROUPS != 3]
            found[name] = float(result.recall[10].mean())
        assert found["events alone"] < 0.25 and found["with features"] > 0.4, found  # 10 of 20 items at best


def test_a_user_is_the_direction_of_events_and_features() -> None:
    torch.manual_seed(1)
    beside = UserInput(3, 5).eval()
    beside.standardise_by(torch.tensor([1.0, 0.0, 2.0]), torch.tensor([2.0, 1.0, torch.inf]))
    events, features = functional.normalize(torch.randn(2, 5), dim=-1), torch.tensor([[3.0, torch.nan, 7.0], [-1.0, 2.0, 2.0]])
    standard = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 2.0, 0.0]])
    expected = events + standard * 3**-0.5 @ beside.projection.weight.T + beside.projection.bias
    torch.testing.assert_close(beside(events, features), functional.normalize(expected, dim=-1))
    unknown = beside(events, None)
    torch.testing.assert_close(unknown, functional.normalize(events + beside.projection.bias, dim=-1))


def test_hidden_events_follow_from_user_and_step() -> None:
    beside = UserInput(3, 5, history_dropout=0.25)
    users = torch.arange(4000)
    kept = beside.kept(users, seed=3)
    assert abs(float(kept.mean()) - 0.75) < 0.03
    assert kept[7].equal(beside.kept(torch.tensor([7]), seed=3)[0]) and not kept.equal(beside.kept(users, seed=4))
    assert bool(beside.eval().kept(users, seed=3).all())


def test_statistics_by_blocks_are_those_of_all_users() -> None:
    class Blocks:
        num_blocks = 3

        def __init__(self, whole: Sequences) -> None:
            self.whole = whole

        def read(self, block: int) -> Sequences:
            return self.whole.select(torch.arange(block, self.whole.num_users, 3))

    data = log()
    assert data.features is not None
    mean, std, count = user_statistics(Blocks(data)) or ()
    there = data.features[~data.features.isnan().any(1)]
    torch.testing.assert_close(mean, there.mean(0))
    varied = std.isfinite()
    torch.testing.assert_close(std[varied], there.std(0, correction=0)[varied])
    assert bool((there[:, ~varied] == there[0, ~varied]).all()) and count.unique().tolist() == [len(there)]
    assert user_statistics(Sequences.past(torch.tensor([1]), torch.tensor([0, 1]))) is None


def test_every_way_to_encode_a_user_agrees() -> None:
    data = log()
    for order in ("sequence", "set"):
        model = towers(data, order, num_user_features=64, popularity=True).eval()
        users = torch.tensor([0, 5, 239])
        of = model.encode_users_of(data, users, data.known_ends(users, "holdout"))
        histories = data.histories(users, data.known_ends(users, "holdout"), 8)
        torch.testing.assert_close(of, model.encode_users(histories, data.features[users]))  # type: ignore[index]
        moved = model.for_catalogue(torch.arange(ITEMS), torch.zeros(ITEMS, 1))
        torch.testing.assert_close(moved.encode_users_of(data, users, data.known_ends(users, "holdout")), of)
        assert model.options["num_user_features"] == 64 and "num_user_features" not in towers(data, order).options


def test_the_users_of_a_batch_are_those_of_evaluation() -> None:
    data = log()
    model = towers(data, "set", num_user_features=64, dropout=0.0).eval()
    loader = Loader(data, batch_size=64, max_history=8, ordered=False)
    batch = next(loader.epoch(0).batches())
    _, wholes = model.encode_contexts(batch)
    assert batch.features_wG is not None and wholes is not None
    torch.testing.assert_close(wholes, model.encode_users(batch.items_wE, data.features[batch.users]))  # type: ignore[index]


def test_a_category_that_appears_needs_no_new_towers() -> None:
    data = log()
    model = trained(data, "sequence", num_user_features=64)
    other = log(regions=["elsewhere" if user % GROUPS == 0 else REGIONS[user % GROUPS] for user in range(USERS)])
    old, new = (evaluate(model, each, "holdout", ks=(10,), new_users=True) for each in (data, other))
    south = [row for row, user in enumerate(new.users.tolist()) if user % GROUPS == 1]
    assert float(new.recall[10][south].mean()) > 0.4
    assert new.users.equal(old.users)
