"""A plugin that tells every process of Airflow about the timetables of `dags.days`."""

from airflow.plugins_manager import AirflowPlugin

from dags.days import AskedDays, ScheduledDays


class TimetablesPlugin(AirflowPlugin):
    """Registers the timetables."""

    name = "esans_timetables"
    timetables = [AskedDays, ScheduledDays]
