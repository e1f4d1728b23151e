import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings, workspace_name
from jobs.step.runtime import load_settings


def test_command_line_beats_file_beats_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESANS_TRAINING__EPOCHS", "3")
    monkeypatch.setenv("ESANS_TRAINING__BATCH_SIZE", "33")
    assert load_settings([]).training.epochs == 3
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"training": {"epochs": 4}, "date": "2026-02-03"}))
    settings = load_settings(["--settings", str(file)])
    assert (settings.training.epochs, settings.training.batch_size, settings.ds) == (4, 33, "2026-02-03")
    settings = load_settings(["--settings", str(file), "--training.epochs", "5", "--sampling.log_q", "0.5"])
    assert (settings.training.epochs, settings.sampling.log_q, settings.ds) == (5, 0.5, "2026-02-03")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ESANS_TRAINIGN__EPOCHS", "names no section of the settings.*There are: .*training"),
        ("ESANS_TRAINING__EPOCH", "training.epoch"),
    ],
)
def test_a_misspelt_environment_variable_is_refused(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "3")
    with pytest.raises(ValidationError, match=said):
        load_settings([])


def test_frozen_settings_read_back_the_same(settings: PipelineSettings, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text(settings.model_dump_json())
    assert load_settings(["--settings", str(file)]) == settings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"training": {"epochs": 0}}, "greater than or equal to 1"),
        ({"training": {"epoch": 3}}, "Extra inputs are not permitted"),
        ({"sampling": {"lambda_low": 0.5, "lambda_high": 0.1}}, "must not exceed"),
        ({"clusters": {"min_cluster_size": 3}}, "must be at least"),
        ({"training": {"embedding_dim": 10, "num_heads": 4}}, "divisible"),
        ({"registry": {"model_name": "../x"}}, "pattern"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_reason(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PipelineSettings(**values)


def test_an_unreadable_settings_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.json"):
        load_settings(["--settings", str(tmp_path / "nowhere.json")])


def test_the_config_hash_follows_what_changes_a_result_and_nothing_else(settings: PipelineSettings, tmp_path: Path) -> None:
    same = settings.model_copy(update={"home": tmp_path / "elsewhere"})
    assert same.config_hash() == settings.config_hash()
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"epochs": 99})})
    assert other.config_hash() != settings.config_hash()


def test_every_setting_is_explained() -> None:
    for name, section in PipelineSettings.model_fields.items():
        if hasattr(section.annotation, "model_fields"):
            for field, info in section.annotation.model_fields.items():
                assert info.description, f"{name}.{field}"


def test_workspace_names_are_safe_folder_names() -> None:
    assert workspace_name("../shared/data/Movie Posters/") == "movie-posters"
    assert workspace_name("file:///x/../..") == "data"
