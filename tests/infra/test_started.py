"""What `make up` remembers of how a home was started, and what it says about what is given now."""

import stat
from pathlib import Path

import pytest

from infra.local.started import NONE, Started, differences

ALERTS = '{"conn_type": "http", "host": "https://alerts.example.org/secret"}'
FIRST = {
    "ESANS_REGISTRY__PROMOTION": "review",
    "AIRFLOW_CONN_ESANS_ALERTS": ALERTS,
    "ESANS_HOME": "/elsewhere",
    "PATH": "/bin",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "airflow").mkdir()
    started = Started().with_given({"SCHEDULE": "0 3 * * *", "OTEL": "http://127.0.0.1:4318", "SPARK_MASTER": None}, FIRST)
    started.keep(tmp_path)
    return tmp_path


def test_nothing_given_is_the_same_again(home: Path) -> None:
    before = Started.of(home)
    assert before is not None
    now = before.with_given(dict.fromkeys(("SCHEDULE", "OTEL", "SPARK_MASTER")), {"PATH": "/bin"})
    assert now == before and differences(before, now) == []
    assert now.options == {"SCHEDULE": "0 3 * * *", "OTEL": "http://127.0.0.1:4318"}
    assert now.inherited({"PATH": "/usr/bin"}) == {
        "ESANS_REGISTRY__PROMOTION": "review",
        "AIRFLOW_CONN_ESANS_ALERTS": ALERTS,
        "PATH": "/usr/bin",
    }
    assert stat.S_IMODE((home / "airflow" / "started.json").stat().st_mode) == 0o600


def test_what_is_given_wins_and_what_differs_is_said_without_secrets(home: Path) -> None:
    before = Started.of(home)
    assert before is not None
    changed = {"ESANS_REGISTRY__PROMOTION": "auto", "AIRFLOW_CONN_ESANS_ALERTS": "http://x", "ESANS_GATE_KEY": "0123456789" * 4}
    now = before.with_given({"SCHEDULE": NONE, "OTEL": None}, changed)
    assert differences(before, now) == [
        "SCHEDULE: none (last time: 0 3 * * *)",
        "AIRFLOW_CONN_ESANS_ALERTS: another value that is not shown (last time: another value that is not shown)",
        "ESANS_GATE_KEY: another value that is not shown (last time: not set)",
        "ESANS_REGISTRY__PROMOTION: auto (last time: review)",
    ]


def test_options_and_variables_can_be_taken_back(home: Path) -> None:
    before = Started.of(home)
    assert before is not None
    now = before.with_given({"OTEL": NONE}, {"ESANS_REGISTRY__PROMOTION": ""})
    assert now.options == {"SCHEDULE": "0 3 * * *"} and list(now.variables) == ["AIRFLOW_CONN_ESANS_ALERTS"]
    assert "ESANS_REGISTRY__PROMOTION" not in now.inherited({"ESANS_REGISTRY__PROMOTION": ""})
    assert differences(before, now) == [
        "OTEL: not set (last time: http://127.0.0.1:4318)",
        "ESANS_REGISTRY__PROMOTION: not set (last time: review)",
    ]
