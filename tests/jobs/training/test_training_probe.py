"""The measures of drawn negatives equal a count by hand, and measuring does not change training."""

import numpy as np
import pytest
import torch
from training_tables import write_training_tables

from jobs.base.settings import PipelineSettings
from jobs.shop.truth import HiddenTruth
from jobs.training.data import TrainingData, load_item_clusters, load_training_data
from jobs.training.probe import NegativeProbe
from jobs.training.train import build_model, build_objective


@pytest.fixture
def data(settings: PipelineSettings) -> TrainingData:
    write_training_tables(settings)
    return load_training_data(settings)


@pytest.mark.parametrize("method", ["uniform", "esans", "in_batch"])
def test_rates_and_hardness_are_those_of_a_count_by_hand(settings: PipelineSettings, data: TrainingData, method: str) -> None:
    torch.manual_seed(0)
    model = build_model(settings, data).train()
    clusters = load_item_clusters(settings) if method == "esans" else None
    objective = build_objective(settings, data, clusters, data.num_train / data.num_train.sum(), method, 0.2)
    probe = NegativeProbe(settings, data, objective)
    found, state = probe.measure(model), torch.get_rng_state()
    assert found == probe.measure(model)
    assert torch.equal(state, torch.get_rng_state()) and model.training
    assert probe.false_means == "later_event"

    log, model = data.log.read(0), model.eval()
    users = log.evaluation_users("validation").tolist()
    runs = [log.items[log.offsets[user] : log.offsets[user + 1]] for user in users]
    positives = torch.stack([run[log.num_train[user] - 1] for user, run in zip(users, runs, strict=True)])
    drawn_BR = probe._draw(positives)
    weights, false, total, hardness = [], 0, 0, []
    for user, run, positive, drawn in zip(users, runs, positives.tolist(), drawn_BR.tolist(), strict=True):
        start = int(log.num_train[user])
        later = set(run[start : start + int(log.num_validation[user])].tolist())
        history = run[: start - 1][None, -settings.training.max_history :]
        with torch.no_grad():
            user_D, items_nD = model.encode_histories(history)[0], model.encode_items(torch.tensor([positive, *drawn]))
        scores = np.exp((items_nD @ user_D).numpy().astype(np.float64) / 0.2)
        scores[1:][[item == positive for item in drawn]] = 0
        weight = scores[1:] / scores.sum()
        hardness.append(weight.sum())
        weights += [(value, item in later) for value, item in zip(weight, drawn, strict=True) if item != positive]
    false, total = sum(is_false for _, is_false in weights), len(weights)
    assert total and found["false_negative_rate"] == pytest.approx(false / total, abs=1e-6)
    assert found["hardness"] == pytest.approx(float(np.mean(hardness)), abs=1e-5)
    by_weight = sum(value for value, is_false in weights if is_false) / sum(value for value, _ in weights)
    assert found["false_negative_weight"] == pytest.approx(by_weight, abs=1e-5)


def test_the_hidden_truth_counts_where_there_is_one(
    settings: PipelineSettings, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaf, everyone = np.zeros(len(data.item_ids), np.int64), np.zeros((data.log.num_users, 1), np.int64)
    leaf[::2] = 1  # of all items every user likes the odd ones
    monkeypatch.setattr(HiddenTruth, "load", classmethod(lambda cls, settings: cls(leaf, leaf, everyone)))
    probe = NegativeProbe(
        settings, data, build_objective(settings, data, None, data.num_train / data.num_train.sum(), "uniform", 0.2)
    )
    assert probe.false_means == "truth"
    assert probe.measure(build_model(settings, data))["false_negative_rate"] == pytest.approx(0.5, abs=0.05)
