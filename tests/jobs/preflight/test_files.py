"""What is told of the files of a source, whatever stands in them."""

from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.preflight.files import inferred, of_files
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
    assert said in " ".join(of_files(landing(settings, folder))["interactions"])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "null"], "integer"),
        (["1", "2.5", "1e3"], "number"),
        (["2026-01-28", "2026-01-28T12:00:00Z", "2026-01-28 12:00:00 UTC"], "time"),
        (["true", "False"], "true or false"),
        ([True, False], "true or false"),
        (["1", "a"], "text"),
        (["inf", "1"], "text"),
        (["", "NaN", "None"], "no value"),
        ([["a"], ["b", "c"]], "list"),
        ([{"a": 1}], "object"),
        ([["a"], "b"], "mixed"),
    ],
)
def test_types_are_inferred_from_values(values: list, kind: str) -> None:
    assert inferred(values) == kind


def test_every_column_is_told_with_its_type(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path, "user_id,item_id,timestamp,price\n1,100,1769601600,2.5\n")
    told = " ".join(of_files(landing(settings, folder))["interactions"])
    assert "user_id (text): '1'" in told and "timestamp (time): '2026-01-28" in told
    assert "user_id (integer), item_id (integer), timestamp (integer), price (number)" in told
