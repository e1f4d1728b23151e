"""The day that a run works on, and the name of the run, which says that day."""

import datetime as dt
from typing import TYPE_CHECKING

from airflow.timetables.base import DataInterval, Timetable
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.simple import NullTimetable

if TYPE_CHECKING:
    from airflow.utils.types import DagRunType
    from pendulum import DateTime

DAY = "{{ data_interval_start | ds }}"  # the day (UTC) that a run works on; a template


class _Days(Timetable):
    """What runs by hand have in common, whether their DAG has a schedule or not."""

    def infer_manual_data_interval(self, *, run_after: "DateTime") -> DataInterval:
        """The whole day (UTC) of a logical date that a person chose.

        Airflow's form starts with the present moment. That day is not over, so the run works on the day before, which is the
        last finished one. Midnight of today means today, because nobody comes to it by chance.

        Args:
            run_after: the logical date.
        """
        moment = run_after.in_timezone("UTC")
        day = moment.start_of("day")
        if moment != day and day.date() == _today():
            day = day.subtract(days=1)
        return DataInterval(day, day.add(days=1))

    def generate_run_id(
        self, *, run_type: "DagRunType", run_after: "DateTime", data_interval: DataInterval | None, **extra: object
    ) -> str:
        """The kind of the run and its day. A run by hand has the time at which it was asked for too, as a day may have several.

        Args:
            run_type: `manual`, `scheduled` or another kind.
            run_after: for a run by hand, when it was asked for.
            data_interval: the day, or what the schedule has between two runs.
            extra: what Airflow may add.
        """
        if data_interval is None:
            return super().generate_run_id(run_type=run_type, run_after=run_after, data_interval=None, **extra)
        start = data_interval.start.in_timezone("UTC")
        suffix = f"{start:%Y-%m-%d}" if start == start.start_of("day") else f"{start:%Y-%m-%dT%H:%M}"
        if run_type == "manual":
            suffix += f"__asked_{run_after.in_timezone('UTC'):%Y-%m-%dT%H:%M:%S.%f}"
        return run_type.generate_run_id(suffix=suffix)


class ScheduledDays(_Days, CronDataIntervalTimetable):
    """Runs by a schedule: each starts when its interval is over, and works on the day on which the interval began."""


class AskedDays(_Days, NullTimetable):
    """Runs that somebody asks for, and no others."""


def days(schedule: str) -> Timetable:
    """The timetable of a DAG whose runs work on a day each.

    Args:
        schedule: a cron expression in UTC; empty if the DAG runs only when somebody asks for it.
    """
    return ScheduledDays(schedule, "UTC") if schedule else AskedDays()


def _today() -> dt.date:
    return dt.datetime.now(dt.UTC).date()
