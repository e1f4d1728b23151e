"""What a person does with a proposal: agreeing, taking back, and what is refused. The commands run as on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.step.runtime import load_settings
from tests.jobs.serving_days import act

pytestmark = pytest.mark.mlflow  # which the module of all actions imports

DATE = "2026-01-28"


@pytest.fixture
def today(tmp_path: Path) -> PipelineSettings:
    return PipelineSettings(home=tmp_path / "home")


def propose(settings: PipelineSettings, changes: dict[str, Any], name: str = "0a1b2c3d4e5f") -> Path:
    """As `jobs.tuning.proposal` writes it; `changes` holds the new values."""
    flat = settings.flat()
    found = {
        "proposal": name,
        "date": DATE,
        "headline": "Better than today's settings",
        "base": {key: value for key, value in flat.items() if key.startswith(("training.", "sampling."))},
        "changes": {key: [flat[key], value] for key, value in changes.items()},
        "metric": "validation_recall_50",
        "today": {"trial": 0, "recall": 0.17},
        "best": {"trial": 7, "recall": 0.18},
        "trials": [{}] * 9,
    }
    file = settings.home / "tuning" / DATE / "proposal.json"
    write_json(file, found)
    return file


def agreed(settings: PipelineSettings) -> dict[str, Any]:
    return json.loads((settings.home / "agreed_settings.json").read_text())


def in_force(settings: PipelineSettings) -> PipelineSettings:
    return load_settings([f"--home={settings.home}"])


def test_agreed_settings_are_in_force_from_then_on_with_who_and_why(today: PipelineSettings) -> None:
    propose(today, {"training.temperature": 0.07, "training.epochs": 16})
    status, record = act("adopt_settings", today, "one", date=DATE, reason="two per cent more")
    assert status == 0 and record["summary"]["changed"]
    assert "training.epochs 10 -> 16" in record["message"] and "training.temperature 0.1 -> 0.07" in record["message"]
    found = agreed(today)
    assert found["settings"] == {"training.temperature": 0.07, "training.epochs": 16}
    assert (found["by"], found["reason"], found["date"], found["trial"]) == ("ann", "two per cent more", DATE, 7)
    assert (found["before"], found["found"], found["trials"]) == (0.17, 0.18, 9)
    assert (in_force(today).training.temperature, in_force(today).training.epochs) == (0.07, 16)
    assert load_settings([f"--home={today.home}", "--training.epochs=2"]).training.epochs == 2


def test_agreeing_again_changes_nothing_and_a_later_proposal_is_added(today: PipelineSettings) -> None:
    propose(today, {"training.temperature": 0.07})
    assert act("adopt_settings", today, "one", date=DATE)[0] == 0
    first = agreed(today)
    status, record = act("adopt_settings", today, "two", date=DATE, by="bob")
    assert (status, record["summary"]["changed"], agreed(today)) == (0, False, first)
    propose(in_force(today), {"training.epochs": 16, "sampling.num_pool": 2048}, name="ffffffffffff")
    assert act("adopt_settings", today, "three", date=DATE, by="bob")[0] == 0
    assert agreed(today)["settings"] == {"training.temperature": 0.07, "training.epochs": 16, "sampling.num_pool": 2048}
    assert agreed(today)["by"] == "bob"


def test_it_can_be_taken_back(today: PipelineSettings) -> None:
    propose(today, {"training.temperature": 0.07})
    act("adopt_settings", today, "one", date=DATE)
    status, record = _revoke(today, "two")
    assert status == 0 and "though ann had agreed" in record["message"]
    assert record["summary"]["revoked"]["settings"] == {"training.temperature": 0.07}
    assert in_force(today) == today and not (today.home / "agreed_settings.json").exists()
    status, record = _revoke(today, "three")
    assert status == 0 and not record["summary"]["changed"] and "nothing was agreed to" in record["message"]


def test_what_cannot_be_agreed_to_says_why(today: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(**options: str) -> str:
        status, record = act("adopt_settings", today, "a", **options)
        assert status == 65 and not (today.home / "agreed_settings.json").exists()
        return record["message"]

    assert "there is no proposal for this date. Remedy: search again: python -m jobs.tuning" in refused(date=DATE)
    assert "is no date" in refused(date="../../etc")
    assert "either --date or --revoke is needed" in refused()
    propose(today, {})
    assert "proposes nothing" in refused(date=DATE)
    file = propose(today, {"training.temperature": 0.07})
    assert f"{file}: holds proposal 0a1b2c3d4e5f, and not ffff" in refused(date=DATE, proposal="ffff")
    monkeypatch.setenv("ESANS_TRAINING__DROPOUT", "0.25")
    assert "training.dropout was 0.5 and is 0.25" in refused(date=DATE)
    monkeypatch.delenv("ESANS_TRAINING__DROPOUT")
    propose(today, {"training.embedding_dim": 31})
    assert "do not fit together: training.embedding_dim (31) must be divisible" in refused(date=DATE)


def test_another_device_is_no_reason_to_search_again(today: PipelineSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    propose(today, {"training.temperature": 0.07})
    monkeypatch.setenv("ESANS_TRAINING__DEVICE", "cpu")
    assert act("adopt_settings", today, "one", date=DATE, proposal="0a1b2c3d4e5f")[0] == 0


def _revoke(settings: PipelineSettings, action: str) -> tuple[int, dict[str, Any]]:
    return act("adopt_settings", settings, action, revoke=None)
