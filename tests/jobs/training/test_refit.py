"""The model that serves: trained on all events, only if it is sound, and as well after an interruption."""

import copy
from typing import Any

import pytest
import torch
from training_tables import write_training_tables

from esans_core.evaluation import encode_catalogue
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.training import epochs, refit, train
from jobs.training.data import load_training_data
from jobs.training.model_store import SERVED, load_served, load_towers

pytestmark = pytest.mark.mlflow


@pytest.fixture
def prepared(settings: PipelineSettings, home: object) -> PipelineSettings:
    write_training_tables(settings)
    changes = {"epochs": 3, "batch_size": 64, "learning_rate": 0.01, "patience": 3}
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})


def test_all_events_are_training_events_and_nobody_is_left_to_judge(prepared: PipelineSettings) -> None:
    data = load_training_data(prepared)
    everything = refit.with_all_events(data)
    events = [data.log.read(block).items for block in range(data.log.num_blocks)]
    assert int(everything.num_train.sum()) == sum(len(items) for items in events) > int(data.num_train.sum())
    for block in range(everything.log.num_blocks):
        assert torch.equal(everything.log.read(block).num_train, everything.log.num_train_events(block))
    assert refit.has_later_events(data) and not refit.has_later_events(everything)


def test_the_model_of_all_events_serves_and_the_judged_one_keeps_its_figures(
    prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = prepared.model_copy(update={"training": prepared.training.model_copy(update={"refit": False})})
    alone = train.run(without, "challenger")

    def folder() -> Any:
        return Lake.of(prepared).path("challenger", prepared.date)

    assert alone["refit"] is None and not (folder() / SERVED).exists()
    judged = encode_catalogue(load_served(folder())[0])
    done, real = [], epochs.train_epoch

    def dies_in_the_refit(*args: Any, **kwargs: Any) -> float:
        done.append(args)
        if len(done) == 4:  # the first epoch of the refit
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(epochs, "train_epoch", dies_in_the_refit)
    with pytest.raises(KeyboardInterrupt):
        train.run(prepared, "challenger")
    summary = train.run(prepared, "challenger")
    assert len(done) == 4 + summary["best_epoch"], "what was done before is not done again"
    assert summary["validation_recall_12"] == alone["validation_recall_12"]
    assert summary["refit"]["problem"] is None and summary["refit"]["overlap"] >= refit.LEAST_OVERLAP
    assert torch.equal(encode_catalogue(load_towers(folder())[0]), judged)
    served = encode_catalogue(load_served(folder())[0])
    assert not torch.equal(served, judged)
    monkeypatch.setattr(epochs, "train_epoch", real)
    again = prepared.model_copy(update={"training": prepared.training.model_copy(update={"seed": 8})})
    train.run(again, "challenger")
    train.run(prepared, "challenger")
    assert torch.equal(encode_catalogue(load_served(folder())[0]), served)


@pytest.mark.parametrize(
    ("change", "problem"),
    [(torch.nan, "not finite"), (0.0, "close together"), (None, "in common with the judged model")],
)
def test_a_model_that_is_not_sound_does_not_serve(prepared: PipelineSettings, change: float | None, problem: str) -> None:
    data = load_training_data(prepared)
    torch.manual_seed(0)
    judged = train.build_model(prepared, data).eval()

    def spoilt(everything: object) -> Any:
        model = copy.deepcopy(judged)
        with torch.no_grad():
            table, rest = model.item_input.id_embedding.weight, model.item_input.content_projection.weight
            if change is None:
                table.copy_(torch.randn_like(table) * 9)
                model.user_tower.layers[0].narrow.weight.normal_()
            else:
                rest.zero_()
                table.fill_(change or 1.0)
        return model

    served, found = refit.refit(judged, data, spoilt)
    assert served is None and problem in found["problem"]
    assert refit.refit(judged, data, lambda everything: judged)[1] == {"overlap": 1.0, "problem": None}
