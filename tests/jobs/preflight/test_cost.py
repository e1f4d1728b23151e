"""The estimate of a run beside what whole days on two cores took."""

import pytest

from jobs.base.settings import PipelineSettings
from jobs.preflight.cost import cost_minutes, cost_sentence


@pytest.mark.parametrize(
    ("source", "epochs", "items", "pictures", "events", "took"),
    [
        ("the embedded shop", 10, 3_000, 3_000, 42_483, 6.9),
        ("an export of reviews", 10, 300, 0, 2_055, 2.8),
        ("an export with pictures", 10, 300, 270, 3_481, 3.2),
        ("S3-Rec Beauty", 2, 12_101, 0, 121_890, 7.1),
    ],
)
def test_it_is_within_a_third_of_what_a_day_took(
    monkeypatch: pytest.MonkeyPatch, source: str, epochs: int, items: int, pictures: int, events: int, took: float
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    settings = PipelineSettings(training={"epochs": epochs})
    assert took / 1.34 < cost_minutes(settings, items=items, pictures=pictures, events=events) < took * 1.34, source
    assert "minutes" in cost_sentence(settings, items=items, pictures=pictures, events=events)
