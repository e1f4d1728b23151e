"""What is told of the files of a source, whatever stands in them."""

from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.preflight import profile
from tests.jobs.landing.sources import csv_source, landing, with_mapping


@pytest.mark.parametrize(
    ("time", "zone", "said"),
    [
        ("0001-01-01", "Europe/Berlin", "-62135600008 seconds"),
        ("0001-01-01T00:00:00+01:00", "UTC", "-62135600400 seconds"),
        ("9999-12-31T23:59:59-05:00", "UTC", "253402318799 seconds"),
        ("2026-01-28T12:00:00Z", "Europe/Berlin", "2026-01-28T12:00:00+00:00"),
    ],
)
def test_times_outside_the_calendar_are_shown(
    settings: PipelineSettings, tmp_path: Path, time: str, zone: str, said: str
) -> None:
    folder = csv_source(tmp_path, f"user_id,item_id,timestamp\n1,100,{time}\n")
    with_mapping(folder, {"interactions": {"timezone": zone}})
    assert said in " ".join(profile.of_files(landing(settings, folder))["interactions"])
