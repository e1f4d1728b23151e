"""The file of agreed settings: when it counts, when it does not, and what is said of a damaged one."""

from pathlib import Path
from typing import Any

import pytest

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.step.runtime import load_settings
from tests.agreements import agree


def test_agreed_settings_go_before_defaults_and_after_what_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agree(tmp_path, {"training.epochs": 4, "training.batch_size": 44, "training.dropout": 0.4, "training.temperature": 0.04})
    monkeypatch.setenv("ESANS_TRAINING__BATCH_SIZE", "33")
    frozen = tmp_path / "settings.json"
    frozen.write_text('{"training": {"dropout": 0.2}}')
    settings = load_settings([f"--home={tmp_path}", "--settings", str(frozen), "--training.epochs=5"])
    training = settings.training
    assert (training.epochs, training.batch_size, training.dropout, training.temperature) == (5, 33, 0.2, 0.04)
    given = {"training.epochs": 5, "training.batch_size": 33, "training.dropout": 0.2}
    assert settings.agreement()["otherwise"] == given and settings.agreement()["by"] == "ann"
    in_code = PipelineSettings(home=tmp_path, training={"epochs": 6})
    assert (in_code.training.epochs, in_code.training.temperature) == (6, 0.04)


def test_settings_frozen_before_an_agreement_stay_as_they_were(settings: PipelineSettings) -> None:
    frozen = settings.home.parent / "settings.json"
    frozen.write_text(settings.model_dump_json())
    agree(settings.home, {"training.temperature": 0.04})
    assert load_settings(["--settings", str(frozen)]) == settings


def test_a_home_where_nobody_agreed_to_anything_is_as_before(settings: PipelineSettings, tmp_path: Path) -> None:
    agree(tmp_path / "another", {"training.temperature": 0.04})
    assert settings.agreement() is None and settings.training.temperature != 0.04


def test_the_home_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESANS_HOME", str(tmp_path))
    agree(tmp_path, {"sampling.num_pool": 77})
    assert PipelineSettings().sampling.num_pool == 77


@pytest.mark.parametrize(
    ("agreed", "said"),
    [
        ({"training.heat": 0.1}, "training.heat: there is no such setting"),
        ({"training.temperature": 7}, r"training.temperature: Input should be less than or equal to 1 \(got 7\)"),
        ({"training.epochs": "many"}, "training.epochs: Input should be a valid integer"),
        ({"registry.tracking_uri": "http://elsewhere"}, "registry.tracking_uri: only settings of the sections sampling and"),
        ({"home": "/elsewhere"}, "home: only settings of the sections"),
        ({"sampling.lambda_low": 0.5}, "lambda_low .* must not exceed lambda_high"),
        ({}, "at least 1 item"),
    ],
)
def test_a_damaged_file_is_named_with_the_setting_at_fault(tmp_path: Path, agreed: dict[str, Any], said: str) -> None:
    file = agree(tmp_path, agreed)
    with pytest.raises(DataError, match=rf"{file}: .*{said}.*Remedy: correct the file, or remove it"):
        load_settings([f"--home={tmp_path}"])


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read"), ("[]", "does not hold agreed settings")])
def test_a_file_that_is_no_agreement_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "agreed_settings.json"
    file.write_text(text)
    with pytest.raises(DataError, match=f"{file}: {said}"):
        PipelineSettings(home=tmp_path)
    agree(tmp_path, {"training.epochs": 3}, signed=True)
    with pytest.raises(DataError, match="signed: there is no such setting"):
        PipelineSettings(home=tmp_path)
