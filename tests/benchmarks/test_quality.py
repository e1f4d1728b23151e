"""The quality benchmark's trials: budgets, keys, what they start from, and one on a toy catalogue."""

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch

from benchmarks.quality import trial as trials_module
from benchmarks.quality.clusters import SIZES, Clusters
from benchmarks.quality.data import QualityData
from benchmarks.quality.methods import (
    BATCH,
    CONTENDERS,
    NUM_TRIALS,
    PER_POSITIVE,
    TEMPERATURES,
)
from benchmarks.quality.plan import Plan
from benchmarks.quality.runner import kept_plan
from benchmarks.quality.trial import Trial, build_objective, run_trial, some_users
from benchmarks.record import RESULTS
from benchmarks.trials import load_runs
from esans_core.defaults import CLUSTERS, SAMPLER
from esans_core.negatives import METHODS, NegativeConfig
from esans_core.sequences import Sequences
from jobs.base.settings import POPULARITY, ClusterSettings, SamplingSettings, TrainingSettings
from tests.benchmarks.tuned_runs import tuned

NUM_ITEMS, NUM_USERS = 60, 40


def toy() -> tuple[QualityData, Clusters]:
    """Users who stay within one of six leaves; 6 training, 1 validation and 1 hold-out event each."""
    generator = torch.Generator().manual_seed(0)
    leaf = torch.arange(NUM_ITEMS) % 6
    items = torch.stack([torch.randperm(10, generator=generator)[:8] * 6 + user % 6 for user in range(NUM_USERS)])
    sequences = Sequences(
        items.flatten(),
        torch.arange(NUM_USERS + 1) * 8,
        torch.full((NUM_USERS,), 6),
        torch.full((NUM_USERS,), 1),
    )
    view = torch.nn.functional.one_hot(leaf, 6).float() + 0.1 * torch.randn(NUM_ITEMS, 6, generator=generator)
    liked = torch.arange(NUM_USERS)[:, None] % 6
    data = QualityData.of("quick", sequences, {"visual": view, "behaviour": view}, leaf, liked)
    return data, Clusters(leaf, torch.arange(NUM_ITEMS) // 6 % 2, torch.eye(6))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"dim": 8, "num_heads": 2, "max_history": 6, "batch_size": 64}
    monkeypatch.setattr(trials_module, "TRAINING", trials_module.TRAINING | changes)
    monkeypatch.setattr(trials_module, "EPOCHS", {"quick": 3})


def test_every_method_of_the_library_is_compared_with_the_same_budget() -> None:
    assert {contender.method for contender in CONTENDERS.values()} == set(METHODS)
    data, clusters = toy()
    positives = torch.arange(NUM_ITEMS).repeat(BATCH // NUM_ITEMS + 1)[:BATCH]
    for name, contender in CONTENDERS.items():
        plan = Plan("quick", "x")
        assert len({trial.key for trial in plan.tuning(name, tuned(plan, name))}) == NUM_TRIALS, name
        first = plan.tuning(name, {})[0]
        if contender.reference:
            continue
        drawn = build_objective(first, data, clusters).sources.draw(positives)
        rows_BR = drawn.rows_BR(positives)
        encoded = [rows_BR.numel(), len(drawn.shared_S)]
        if first.settings.get("share_draws"):
            encoded[1] -= int((rows_BR != positives[:, None]).sum())
        in_batch = BATCH * ("batch" in name or "mns" in name or name == "esans")
        assert sum(encoded) - in_batch <= BATCH * PER_POSITIVE, name


@pytest.mark.usefixtures("small")
@pytest.mark.slow
def test_a_trial_learns_repeats_itself_and_knows_its_false_negatives() -> None:
    data, clusters = toy()
    settings = {"temperature": 0.1, "num_pool": 16, "sampler.items_per_cluster": 3, "training.learning_rate": 0.02}
    trial = Trial("quick", data.digest(), "esans", settings, 1)
    found = run_trial(trial, data, clusters)
    assert found == run_trial(trial, data, clusters) | {"seconds": found["seconds"]}
    assert json.loads(json.dumps(found))["key"] == trial.key
    assert found["epochs"][-1]["loss"] < found["epochs"][0]["loss"]
    paper = run_trial(Trial("quick", data.digest(), "esans_paper", settings, 1), data, clusters, holdout=False)
    assert "holdout" not in paper
    # Of the paper's draws, easy ones come from other leaves and hard ones from the user's own.
    hard_share = 5 / (2 * 3 + 5)
    assert paper["epochs"][0]["false_negatives"] == pytest.approx(hard_share, abs=1e-6)


@pytest.mark.usefixtures("small")
def test_a_large_catalogue_is_updated_where_it_was_used_and_scored_for_some_users(monkeypatch: pytest.MonkeyPatch) -> None:
    data, clusters = toy()
    monkeypatch.setattr(trials_module, "DENSE_ITEMS", NUM_ITEMS - 1)
    monkeypatch.setattr(trials_module, "_SCORED_USERS", 20)
    settings = {"temperature": 0.1, "num_pool": 16, "sampler.items_per_cluster": 3, "training.learning_rate": 0.02}
    found = run_trial(Trial("quick", data.digest(), "esans", settings, 1), data, clusters)
    assert found["epochs"][-1]["loss"] < found["epochs"][0]["loss"]
    assert found["holdout"]["users"] == found["validation"]["users"] == 20


def test_the_key_names_all_that_decides() -> None:
    base = Trial("quick", "d", "esans", {"temperature": 0.1}, 1)
    others = [
        Trial("tiktok", "d", "esans", {"temperature": 0.1}, 1),
        Trial("quick", "e", "esans", {"temperature": 0.1}, 1),
        Trial("quick", "d", "mns", {"temperature": 0.1}, 1),
        Trial("quick", "d", "esans", {"temperature": 0.2}, 1),
        Trial("quick", "d", "esans", {"temperature": 0.1}, 2),
    ]
    assert len({base.key, *(other.key for other in others)}) == 6


def test_a_method_whose_formula_has_changed_gets_other_keys_and_all_others_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [Trial("quick", "d", method, {}, 1) for method in ("uniform", "adap_tau")]
    now = [trial.key for trial in trials]
    monkeypatch.setattr(trials_module, "REVISIONS", {})
    assert [trial.key == key for trial, key in zip(trials, now, strict=True)] == [True, False]


SHIPPED = (ClusterSettings(), SamplingSettings(), TrainingSettings())


def shipped_negatives(method: str) -> dict[str, Any]:
    """Fields of the negatives that the training job makes of the default settings, for a method."""
    fields = SHIPPED[1].model_dump(include=set(NegativeConfig.__dataclass_fields__))
    return asdict(NegativeConfig.for_method(method, **fields))  # type: ignore[arg-type]


def test_the_benchmark_starts_from_what_the_pipeline_ships() -> None:
    """Field by field for ours; the other methods differ by what they name."""
    clusters, sampling, training = SHIPPED
    base = CONTENDERS["esans"].fixed
    negatives = {name: value for name, value in base.items() if "." not in name}
    assert asdict(NegativeConfig.for_method("esans", **negatives)) == shipped_negatives("esans") | negatives
    assert negatives.items() <= shipped_negatives("esans").items()
    draws = asdict(SAMPLER) | trials_module.part(base, "sampler.")
    assert draws == {name: getattr(sampling, name) for name in draws}
    shipped = training.model_dump() | {"dim": training.embedding_dim, "popularity": POPULARITY[training.popularity]}
    assert {name: shipped[name] for name in trials_module.TRAINING} == trials_module.TRAINING
    assert trials_module.DEFAULTS.schedule == training.schedule
    assert training.patience == training.epochs, "a trial never stops before its last epoch"
    for temperature in (training.temperature, training.baseline_temperature):
        assert TEMPERATURES[0] <= temperature <= TEMPERATURES[-1], "tuning looks on both sides of what is shipped"
    assert set(SIZES.values()) == {(clusters.num_primary, clusters.num_secondary)}
    # A budget of negatives that is the same for all: those of the other methods that are not shipped with it.
    differ = {
        name: {field: value for field, value in contender.fixed.items() if shipped_negatives(contender.method)[field] != value}
        for name, contender in CONTENDERS.items()
        if not contender.method.startswith("esans")
    }
    pool = {"num_pool": BATCH * PER_POSITIVE}
    assert {name: fields for name, fields in differ.items() if fields} == {"mns": pool, "debiased_mns": pool}


# What trials of the protocols that are kept were run with where their settings say nothing. It is history: when a default
# changes, raise PROTOCOL, so that kept results are not taken for results of the new default, and add what holds from then on.
KEPT = 2  # the protocol of the results of version 0.1
KEPT_TRAINING = {
    **{"dim": 64, "num_heads": 4, "max_history": 50, "id_dropout": 0.1, "batch_size": 1024},
    **{"learning_rate": 4e-3, "weight_decay": 1e-4, "precision": "float32"},
}
MEASURED = {
    KEPT: {
        "in_batch": True,
        "popularity_exponent": 0.75,
        "simple_interpolation": True,
        "hard_interpolation": True,
        "lambda_low": -0.3,
        "lambda_high": 0.1,
        "virtual_weight": 0.02,
        "normalise_virtual": True,
        "same_group_weight": 1.0,
        "log_q": 1.0,
        "easy_temperature": 1.0,
        "num_easy_clusters": 2,
        "items_per_cluster": 5,
        "num_hard": 5,
        "schedule": "linear",
        "dim": 64,
        "learning_rate": 4e-3,
        "id_dropout": 0.1,
        "alignment_epochs": 20,
        "alignment_temperature": 0.1,
        "min_cluster_size": 5,
        "max_train_items": 200_000,
    }
}


MEASURED[3] = MEASURED[KEPT]
MEASURED[4] = MEASURED[3] | {"schedule": "cosine", "learning_rate": 2e-3}


def test_kept_results_are_not_mixed_with_those_of_other_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    now = asdict(CLUSTERS) | asdict(trials_module.DEFAULTS) | asdict(SAMPLER) | asdict(NegativeConfig())
    measured = MEASURED[trials_module.PROTOCOL]
    assert {name: now[name] for name in measured} == measured
    kept = load_runs(RESULTS / "quality" / "shop-100k-mid.jsonl")
    plan = kept_plan("shop-100k-mid", RESULTS / "quality")
    assert not any(trial.key in kept for trial in plan.trials("tune", kept, ["esans", "uniform"]))
    monkeypatch.setattr(trials_module, "PROTOCOL", KEPT)
    monkeypatch.setattr(trials_module, "TRAINING", KEPT_TRAINING)
    assert all(trial.key in kept for trial in plan.trials("final", kept, ["esans", "uniform"])), "kept results are still found"


def test_some_users_are_evaluated_as_among_all() -> None:
    data, _ = toy()
    for split in ("validation", "holdout"):
        few = some_users(data.sequences, split, 10)
        users, same = few.evaluation_users(split), torch.linspace(0, NUM_USERS - 1, 10).long()
        assert len(users) == 10
        for of in (Sequences.relevant, Sequences.seen):
            for mine, whole in zip(of(few, users, split), of(data.sequences, same, split), strict=True):
                assert torch.equal(mine, whole)
        mine, whole = (
            log.histories(rows, log.known_ends(rows, split), 8) for log, rows in ((few, users), (data.sequences, same))
        )
        assert torch.equal(mine, whole)
        assert some_users(data.sequences, split, NUM_USERS) is data.sequences
