"""Publishing is all or nothing, and writing the same rows twice changes nothing but the time of writing."""

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from jobs.errors import DataError
from jobs.lake import Lake, folder_digest, write_json
from jobs.settings import PipelineSettings


def publish(settings: PipelineSettings, values: list[int], table: str = "numbers", name: str = "part-0.parquet") -> Lake:
    lake = Lake.of(settings)
    with lake.write(table, settings) as pending:
        pending.path.mkdir()
        pd.DataFrame({"value": values}).to_parquet(pending.path / name, index=False)
        pending.stats["largest"] = max(values)
    return lake


def test_a_published_table_can_be_read_with_its_manifest(settings: PipelineSettings) -> None:
    lake = publish(settings, [1, 2, 3])
    manifest = lake.manifest("numbers", settings.date)
    assert lake.read_pandas("numbers", settings.date)["value"].tolist() == [1, 2, 3]
    assert manifest["rows"] == 3 and manifest["stats"] == {"largest": 3}
    assert manifest["config_hash"] == settings.config_hash() and manifest["git_sha"]


def test_same_rows_same_version_whatever_the_file_is_called(settings: PipelineSettings) -> None:
    first = publish(settings, [1, 2, 3]).manifest("numbers", settings.date)
    second = publish(settings, [1, 2, 3], name="part-1-other.parquet").manifest("numbers", settings.date)
    assert first["digest"] == second["digest"] and first["version"] == second["version"]
    assert publish(settings, [1, 2, 4]).manifest("numbers", settings.date)["digest"] != first["digest"]


def test_the_digest_follows_the_rows_and_not_the_encoding_of_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"value": [1, 2, None], "vector": [[1.0, 2.0], None, [3.0]], "name": ["a", None, "c"]})
    digests = []
    for folder, changes in (("plain", {}), ("other", {"compression": "gzip", "use_dictionary": False}), ("rows", {})):
        (tmp_path / folder).mkdir()
        written = frame.assign(value=[1, 2, 4]) if folder == "rows" else frame
        written.to_parquet(tmp_path / folder / "part.parquet", index=False, **changes)
        digests.append(folder_digest(tmp_path / folder))
    assert digests[0] == digests[1] != digests[2]


def test_a_failing_writer_leaves_the_published_table_as_it_was(settings: PipelineSettings) -> None:
    lake = publish(settings, [1])
    with pytest.raises(RuntimeError, match="half way"), lake.write("numbers", settings) as pending:
        pending.path.mkdir()
        (pending.path / "half").write_text("x")
        raise RuntimeError("half way")
    assert lake.read_pandas("numbers", settings.date)["value"].tolist() == [1]
    assert not list(lake.root.rglob(".staging-*"))


def test_a_reader_that_resolved_a_path_can_finish_while_a_new_version_is_published(settings: PipelineSettings) -> None:
    lake = publish(settings, [1])
    path = lake.path("numbers", settings.date)
    publish(settings, [2])
    assert pd.read_parquet(path)["value"].tolist() == [1]
    publish(settings, [3])
    publish(settings, [4])
    assert not path.exists()
    assert lake.read_pandas("numbers", settings.date)["value"].tolist() == [4]


def test_inputs_are_recorded_by_digest(settings: PipelineSettings) -> None:
    lake = publish(settings, [1])
    with lake.write("doubled", settings, inputs=["numbers"]) as pending:
        pending.path.mkdir()
        pd.DataFrame({"value": [2]}).to_parquet(pending.path / "p.parquet")
    assert lake.manifest("doubled", settings.date)["inputs"] == {"numbers": lake.manifest("numbers", settings.date)["digest"]}


def test_dates(settings: PipelineSettings) -> None:
    days = [dt.date(2026, 1, day) for day in (26, 28, 30)]
    for day in days:
        lake = publish(settings.model_copy(update={"date": day}), [day.day])
    assert lake.dates("numbers") == days
    assert lake.previous_date("numbers", dt.date(2026, 1, 30)) == days[1]
    assert lake.previous_date("numbers", dt.date(2026, 1, 26)) is None


def test_a_missing_table_says_what_to_do(settings: PipelineSettings) -> None:
    with pytest.raises(DataError, match=r"no table 'numbers' is published for 2026-01-28.*Remedy"):
        Lake.of(settings).path("numbers", settings.date)
    with pytest.raises(ValueError, match="snake_case"):
        Lake.of(settings).exists("../numbers", settings.date)
    with pytest.raises(RuntimeError, match="nothing was written"), Lake.of(settings).write("numbers", settings):
        pass


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"x": 1})
    write_json(tmp_path / "a" / "b.json", {"x": 2})
    assert (tmp_path / "a" / "b.json").read_text() == '{\n  "x": 2\n}\n'
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
    assert len(folder_digest(tmp_path)) == 64
