"""Which day a run works on, and what it is called, as Airflow itself asks the timetables of the DAGs."""

import json
from typing import Any

import pendulum
import pytest
from airflow.timetables.base import DataInterval, TimeRestriction, Timetable
from airflow.utils.types import DagRunType

pytestmark = pytest.mark.airflow
NOW = pendulum.datetime(2026, 1, 29, 11, 30, 5, 250000)


@pytest.fixture(params=["@daily", ""])
def timetable(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Timetable:
    """That of a DAG with a schedule or without one, late in the morning of 2026-01-29."""
    from dags import days

    monkeypatch.setattr(days, "_today", NOW.date)
    return days.days(request.param)


@pytest.mark.parametrize(
    ("chosen", "day"),
    [
        (NOW, "2026-01-28"),  # the form as it opens
        (NOW.subtract(hours=11), "2026-01-28"),
        (pendulum.datetime(2026, 1, 29), "2026-01-29"),  # today on purpose
        (pendulum.datetime(2026, 1, 12), "2026-01-12"),
        (pendulum.datetime(2026, 1, 12, 11, 30), "2026-01-12"),  # another day in the form, with the time left as it was
        (pendulum.datetime(2026, 1, 29, 1, tz="Asia/Tokyo"), "2026-01-28"),
        (pendulum.datetime(2026, 2, 2, 3), "2026-02-02"),
    ],
)
def test_a_run_by_hand_works_on_the_last_finished_day_or_on_the_one_chosen(
    timetable: Timetable, chosen: pendulum.DateTime, day: str
) -> None:
    interval = timetable.infer_manual_data_interval(run_after=chosen)
    start = pendulum.datetime(*map(int, day.split("-")))
    assert (interval.start, interval.end) == (start, start.add(days=1))
    name = timetable.generate_run_id(run_type=DagRunType.MANUAL, run_after=NOW, data_interval=interval)
    assert name == f"manual__{day}__asked_2026-01-29T11:30:05.250000"
    assert DagRunType.from_run_id(name) == DagRunType.MANUAL


def test_a_day_may_have_several_runs_by_hand_and_each_has_its_name(timetable: Timetable) -> None:
    interval = timetable.infer_manual_data_interval(run_after=NOW)
    about: dict[str, Any] = {"run_type": DagRunType.MANUAL, "data_interval": interval}
    assert timetable.generate_run_id(run_after=NOW, **about) != timetable.generate_run_id(run_after=NOW.add(seconds=1), **about)


def test_a_scheduled_run_works_on_the_day_that_is_over_and_is_named_after_it() -> None:
    from dags.days import days

    for schedule, start, name in (
        ("@daily", pendulum.datetime(2026, 1, 28), "scheduled__2026-01-28"),
        ("0 3 * * *", pendulum.datetime(2026, 1, 28, 3), "scheduled__2026-01-28T03:00"),
    ):
        timetable = days(schedule)
        last = DataInterval(start.subtract(days=1), start)
        found = timetable.next_dagrun_info(
            last_automated_data_interval=last, restriction=TimeRestriction(pendulum.datetime(1990, 1, 1), None, True)
        )
        assert found is not None and found.data_interval == DataInterval(start, start.add(days=1))
        assert found.run_after == start.add(days=1)
        asked = {"run_after": found.run_after, "data_interval": found.data_interval}
        assert timetable.generate_run_id(run_type=DagRunType.SCHEDULED, **asked) == name


def test_without_a_schedule_nothing_starts_by_itself() -> None:
    from dags.days import days

    assert not days("").can_be_scheduled
    asked = TimeRestriction(pendulum.datetime(1990, 1, 1), None, True)
    assert days("").next_dagrun_info(last_automated_data_interval=None, restriction=asked) is None


def test_airflow_keeps_and_reads_the_timetables(dags: dict[str, Any]) -> None:
    """The api-server and the scheduler know a DAG only by what is in the database."""
    from airflow.serialization.serialized_objects import DagSerialization

    kinds = {"esans_daily_retraining": "ScheduledDays", "esans_features": "ScheduledDays", "esans_tune": "AskedDays"}
    for name, kind in kinds.items():
        stored = json.loads(json.dumps(DagSerialization.to_dict(dags[name])))
        read = DagSerialization.from_dict(stored).timetable
        assert type(read).__name__ == kind and read.summary == dags[name].timetable.summary
