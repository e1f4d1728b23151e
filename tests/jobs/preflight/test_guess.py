"""What is proposed for tables of other shapes: it is read by landing, or nothing is proposed."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.base.settings import PipelineSettings
from jobs.landing.mapping import DataMapping
from jobs.preflight.guess import as_yaml, guess_mapping
from tests.jobs.landing.sources import LAST_DAY, NOON, landing, last_day, refusal, rows

MOMENTS = [dt.datetime.fromtimestamp(NOON - 3_600 * hour, dt.UTC) for hour in range(500, -1, -1)]


def guessed(settings: PipelineSettings, folder: Path) -> DataMapping:
    """The mapping that is proposed, which lies in the folder from now on."""
    found = guess_mapping(place(folder), settings)
    (folder / "data.yaml").write_text(as_yaml(found))
    return found


def refusal_of_day(settings: PipelineSettings, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        last_day(settings, folder)
    return str(caught.value)


def written(folder: Path, times: list[str], column: str = "timestamp") -> Path:
    folder.mkdir()
    rows = [f"u{row % 7},i{row % 9},{time}\n" for row, time in enumerate(times)]
    (folder / "interactions.csv").write_text(f"user_id,item_id,{column}\n{''.join(rows)}")
    (folder / "items.csv").write_text("item_id,title\n" + "".join(f"i{row},Thing {row}\n" for row in range(9)))
    return folder


@pytest.mark.parametrize(
    "form",
    [
        *("%d.%m.%Y %H:%M", "%m/%d/%Y %I:%M %p", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y, %H:%M", "%Y/%m/%d %I:%M %p", "%d %B %Y %H:%M"),
        *("%d-%m-%Y", "%m/%d/%y %H:%M", "%d-%b-%Y %H:%M:%S"),
    ],
)
def test_the_form_of_times_is_told_by_those_that_are_there(settings: PipelineSettings, tmp_path: Path, form: str) -> None:
    folder = written(tmp_path / "log", [f'"{moment.strftime(form)}"' for moment in MOMENTS])
    assert "timestamp_format" in refusal_of_day(settings, folder)
    assert guessed(settings, folder).interactions[0].timestamp_format == form
    assert last_day(settings, folder) == LAST_DAY


def test_a_month_is_told_from_a_day_by_times_that_lie_close(settings: PipelineSettings, tmp_path: Path) -> None:
    days = [dt.date(2026, 1, 9) + dt.timedelta(days=row // 40) for row in range(100)]  # 9 to 11 January: none tells by itself
    for form in ("%d/%m/%Y", "%m/%d/%Y"):
        folder = written(tmp_path / form.replace("/", ""), [day.strftime(form) for day in days])
        assert guessed(settings, folder).interactions[0].timestamp_format == form


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"])
def test_iso_times_need_no_form(settings: PipelineSettings, tmp_path: Path, form: str) -> None:
    folder = written(tmp_path / "log", [moment.strftime(form) for moment in MOMENTS])
    assert guessed(settings, folder) == DataMapping() and last_day(settings, folder) == LAST_DAY


def test_nothing_is_made_up_for_what_is_no_time(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = written(tmp_path / "log", ["soon"] * 20)
    assert guessed(settings, folder) == DataMapping()


def test_a_day_and_a_clock_in_two_columns_are_put_together(settings: PipelineSettings, tmp_path: Path) -> None:
    times = [moment.strftime("%d.%m.%Y,%H:%M") for moment in MOMENTS]
    folder = written(tmp_path / "log", times, column="date,time")
    (log,) = guessed(settings, folder).interactions
    assert (log.templates, log.timestamp_format) == ({"timestamp": "{date} {time}"}, "%d.%m.%Y %H:%M")
    assert last_day(settings, folder) == LAST_DAY


@pytest.mark.parametrize(
    ("name", "mapping"),
    [
        ("dt=2026-01-{}", {"columns": {"timestamp": "dt"}}),
        ("year=2026/month=1/day={}", {"templates": {"timestamp": "{year}-{month:0>2}-{day:0>2}"}}),
    ],
)
def test_the_name_of_a_folder_may_hold_the_day(
    settings: PipelineSettings, tmp_path: Path, name: str, mapping: dict[str, Any]
) -> None:
    folder = written(tmp_path / "log", [])
    (folder / "interactions.csv").unlink()
    for day in range(20, 29):
        part = folder / "interactions" / name.format(day)
        part.mkdir(parents=True)
        (part / "part-0.csv").write_text("user_id,item_id\n" + "".join(f"u{row},i{row % 9}\n" for row in range(9)))
    (log,) = guessed(settings, folder).interactions
    assert log.model_dump(include={"columns", "templates"}, exclude_defaults=True) == mapping
    assert last_day(settings, folder) == LAST_DAY


@pytest.mark.parametrize(
    ("items", "columns"),
    [
        (
            {"id": "i1", "title": "a", "image_link": "https://a.example/1.jpg", "availability": "in stock"},
            {"item_id": "id", "image_path": "image_link", "available": "availability"},
        ),
        ({"asin": "i1", "images": ["1.jpg", "2.jpg"]}, {"item_id": "asin", "image_paths": "images"}),
        ({"asin": "i1", "images": [{"large": "1.jpg"}]}, {"item_id": "asin"}),
    ],
)
def test_columns_of_a_catalogue(settings: PipelineSettings, tmp_path: Path, items: dict[str, Any], columns: dict) -> None:
    folder = written(tmp_path / "log", [str(NOON)] * 9)
    (folder / "items.csv").unlink()
    (folder / "items.jsonl").write_text(json.dumps(items) + "\n")
    assert guessed(settings, folder).items.columns == columns


def test_bytes_beside_a_path_are_the_picture(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = written(tmp_path / "log", [str(NOON)] * 9)
    (folder / "items.csv").unlink()
    table = pa.table({"item_id": ["i1"], "image": [{"bytes": b"\x89PNG", "path": "1.png"}]})
    pq.write_table(table, folder / "items.parquet")
    assert "image: image.bytes" in refusal(settings, folder).remedy
    assert guessed(settings, folder).items.columns == {"image": "image.bytes"}
    assert rows(landing(settings, folder).tables["items"])[0]["image"] == b"\x89PNG"


def test_a_catalogue_is_taken_from_the_log_if_there_is_none(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = written(tmp_path / "log", [str(NOON)] * 20)
    (folder / "items.csv").unlink()
    items = guessed(settings, folder).items
    assert (items.source, items.repeated_ids) == ("interactions.csv", "first")


@pytest.mark.parametrize("suffix", ["xlsx", "zip", "orc", "avro"])
def test_a_format_that_is_not_read_is_named_and_nothing_stands_for_it(
    settings: PipelineSettings, tmp_path: Path, suffix: str
) -> None:
    folder = written(tmp_path / "log", [str(NOON)] * 20)
    (folder / "items.csv").rename(folder / f"items.{suffix}")
    error = refusal(settings, folder)
    assert f"items.{suffix} is in a format that is not read" in error.problem and "export the table" in error.remedy
    assert guessed(settings, folder) == DataMapping()
