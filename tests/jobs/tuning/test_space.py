"""What a search may try: bounds, today's values among them, and what is left alone, with the reason."""

import optuna
import pytest
from training_tables import write_training_tables

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.tuning.space import SEARCHED, Range, Space, Steps


@pytest.fixture
def prepared(settings: PipelineSettings) -> PipelineSettings:
    write_training_tables(settings)
    return settings


def changed(settings: PipelineSettings, section: str, **values: object) -> PipelineSettings:
    return PipelineSettings(**(settings.model_dump() | {section: getattr(settings, section).model_dump() | values}))


def test_every_trial_has_settings_that_the_schema_takes_and_today_can_be_kept_to_the_last_digit(
    prepared: PipelineSettings,
) -> None:
    odd = changed(prepared, "training", learning_rate=0.0012345, batch_size=100, dropout=0.85, temperature=0.01, epochs=3)
    space = Space.of(odd)
    assert set(space.parts) == set(SEARCHED) and space.left == {}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(40):
        values = space.suggest(study.ask())
        found = space.with_values(values)
        assert {name: found.flat()[name] for name in values if name != "training.order"} == {
            name: value for name, value in values.items() if name != "training.order"
        }
    study.enqueue_trial(space.kept(space.today))
    assert space.kept(space.suggest(study.ask())).keys() == space.parts.keys()  # nothing of today is out of its range
    assert space.with_values(space.today) == odd
    assert space.today["training.order"] == "sequence" and space.written(space.today)["training.order"] == "auto"


def test_values_are_few_digits_and_in_their_order() -> None:
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    assert len(f"{Range(0.01, 0.5, log=True).suggest(trial, 'a'):g}") <= 6
    assert Steps((4, 8, 16)).holding(10).values == (4, 8, 10, 16)
    assert Range(0.0, 0.5).holding(0.7) == Range(0.0, 0.7)


def test_patience_keeps_its_meaning(prepared: PipelineSettings) -> None:
    never = Space.of(changed(prepared, "training", epochs=2, patience=10))
    assert never.with_values(never.today | {"training.epochs": 16}).training.patience == 16
    early = Space.of(changed(prepared, "training", epochs=6, patience=2))
    assert early.with_values(early.today | {"training.epochs": 16}).training.patience == 2


def test_what_is_not_searched_says_why(prepared: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("esans_training__dropout", "0.4")
    kept = PipelineSettings(
        **(
            prepared.model_dump()
            | {"tuning": {"keep": "training.order, training.embedding_dim"}, "sampling": {"method": "dns"}}
        )
    )
    left = Space.of(kept).left
    assert set(left) == {"training.order", "training.embedding_dim", "training.dropout", "sampling.num_pool"}
    assert left["training.order"] == "tuning.keep says so" and "esans_training__dropout" in left["training.dropout"]
    assert left["sampling.num_pool"] == "the method dns has no pool"
    with pytest.raises(DataError, match=r"names training.num_heads, which no search tries.*Remedy"):
        Space.of(changed(prepared, "tuning", keep="training.num_heads"))
    with pytest.raises(DataError, match="nothing is left to search"):
        Space.of(changed(prepared, "tuning", keep=", ".join(SEARCHED)))


def test_sizes_fit_the_settings_beside_them(prepared: PipelineSettings) -> None:
    space = Space.of(changed(prepared, "training", num_heads=12, embedding_dim=24, num_shards=3, batch_size=300))
    assert space.parts["training.embedding_dim"] == Steps((24, 48, 96, 192))
    assert space.parts["training.batch_size"] == Steps((300,))
