import subprocess
import sys

import pytest
import torch

from esans_core.evaluation import evaluate
from esans_core.loader import Loader
from esans_core.objective import NegativeConfig, RetrievalObjective
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower
from esans_core.training import build_optimizers, set_learning_rate, train_epoch


def two_tastes(num_users: int = 200) -> Sequences:
    """Half the users like even items, half odd ones."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randperm(20, generator=generator)[:12] * 2 + user % 2 for user in range(num_users)]
    count = torch.full((num_users,), 12)
    return Sequences(torch.cat(rows), torch.arange(num_users + 1) * 12, count - 3, count - count + 1)


def mixed_negatives(num_pool: int) -> RetrievalObjective:
    config = NegativeConfig.for_method("debiased_mns", num_pool=num_pool)
    return RetrievalObjective(config, torch.full((40,), 1 / 40), temperature=0.1)


def fit(seed: int, epochs: int = 1, precision: torch.dtype = torch.float32) -> tuple[TwoTower, list[float]]:
    torch.manual_seed(0)
    data = two_tastes()
    model = TwoTower(torch.randn(40, 4), torch.ones(40, dtype=torch.bool), dim=16, num_heads=2, max_history=8)
    objective = RetrievalObjective(
        NegativeConfig.for_method("debiased_mns", num_pool=64), torch.full((40,), 1 / 40), temperature=0.1
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = Loader(data, batch_size=128, max_history=8)
    losses = [
        train_epoch(model, objective, loader, [optimizer], seed=seed + epoch, precision=precision) for epoch in range(epochs)
    ]
    return model, losses


def test_training_learns_the_tastes() -> None:
    model, losses = fit(seed=1, epochs=10)
    assert losses[-1] < losses[0]
    # 10 unseen items are of the user's taste and 20 of the other: a ranking by taste alone retrieves all, chance a third
    assert float(evaluate(model, two_tastes(), "holdout", ks=(10,)).recall[10].mean()) > 0.8


def test_training_in_bfloat16_keeps_its_weights_in_float32_and_learns_alike() -> None:
    (_, losses), (mixed, mixed_losses) = fit(seed=1, epochs=10), fit(seed=1, epochs=10, precision=torch.bfloat16)
    assert {value.dtype for value in mixed.state_dict().values() if value.is_floating_point()} == {torch.float32}
    assert mixed_losses != losses and mixed_losses == pytest.approx(losses, rel=0.02)
    assert float(evaluate(mixed, two_tastes(), "holdout", ks=(10,)).recall[10].mean()) > 0.8


def test_same_seed_gives_the_same_weights_to_the_bit() -> None:
    first, second, other = fit(1)[0], fit(1)[0], fit(9)[0]
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert not torch.equal(first.item_input.id_embedding.weight, other.item_input.id_embedding.weight)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_rate_falls_along_a_line_as_pytorch_has_it_and_needs_no_memory(sparse: bool) -> None:
    model = TwoTower(torch.zeros(9, 2), torch.ones(9, dtype=torch.bool), dim=4, num_heads=1, max_history=3, sparse_ids=sparse)
    objective = RetrievalObjective(NegativeConfig.for_method("in_batch"), torch.full((9,), 1 / 9), temperature=0.1)
    optimizers = build_optimizers(model, objective, learning_rate=4e-3, weight_decay=0.0)
    assert len(optimizers) == 1 + sparse
    peers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=4e-3)]
    schedule = torch.optim.lr_scheduler.LambdaLR(peers[0], lambda step: 1 - step / 7)
    rates = []
    for done in range(8):
        rates.append(peers[0].param_groups[0]["lr"])
        set_learning_rate(optimizers, "linear", done=done, total=7)
        assert {group["lr"] for each in optimizers for group in each.param_groups} == {rates[-1]}
        peers[0].step()
        schedule.step()
    assert rates[0] == 4e-3 and rates[7] == 0.0
    set_learning_rate(optimizers, "linear", done=3, total=7)  # where an interrupted training goes on
    assert optimizers[-1].param_groups[0]["lr"] == rates[3]
    set_learning_rate(optimizers, "cosine", done=0, total=40, warm_up=0.1)
    assert optimizers[0].param_groups[0]["lr"] == pytest.approx(4e-3 / 5)
    for done, share in ((4, 1.0), (22, 0.5), (40, 0.0)):
        set_learning_rate(optimizers, "cosine", done=done, total=40, warm_up=0.1)
        assert optimizers[0].param_groups[0]["lr"] == pytest.approx(4e-3 * share)
    set_learning_rate(optimizers, "constant", done=3, total=7)
    assert optimizers[-1].param_groups[0]["lr"] == 4e-3


def test_a_diverging_loss_and_too_few_events_stop_with_a_reason() -> None:
    model, _ = fit(1, epochs=1)
    objective = RetrievalObjective(
        NegativeConfig.for_method("debiased_mns", num_pool=8), torch.full((40,), 1 / 40), temperature=0.1
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    data = two_tastes()
    with pytest.raises(ValueError, match="at least 2 users with a training event"):
        Loader(
            Sequences(torch.tensor([3, 4]), torch.tensor([0, 2]), torch.tensor([2]), torch.tensor([0])),
            batch_size=8,
            max_history=8,
        )
    with torch.no_grad():
        model.user_tower.position.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="loss became nan"):
        train_epoch(model, objective, Loader(data, batch_size=128, max_history=8), [optimizer], seed=0)


def test_sampler_and_training_step_import_and_run_without_faiss() -> None:
    code = (
        "import sys; sys.modules['faiss'] = None\n"
        "import torch\n"
        "from esans_core import ClusterIndex, SemanticNegativeSampler\n"
        "import esans_core.training, esans_core.objective, esans_core.towers\n"
        "import esans_core.clusters.codebooks, esans_core.clusters.alignment\n"
        "labels = torch.arange(100)\n"
        "sampler = SemanticNegativeSampler(ClusterIndex.from_labels(labels % 5, labels // 5 % 3), torch.randn(5, 4))\n"
        "print(sampler.sample(torch.arange(10)).hard_BH.shape[1])\n"
        "assert not {'pyspark', 'airflow', 'mlflow', 'pandas'} & set(sys.modules), 'the library imports a stranger'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "5"
