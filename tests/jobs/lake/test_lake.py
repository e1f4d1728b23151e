"""Publishing is all or nothing, and writing the same rows twice changes nothing but the time of writing."""

import datetime as dt
import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from jobs.base.errors import DataError
from jobs.base.files import folder_digest, write_json
from jobs.base.places import local_draft
from jobs.base.settings import PipelineSettings
from jobs.lake import tables as lake_module
from jobs.lake.tables import Lake
from tests.jobs import lake_process


def publish(settings: PipelineSettings, values: list[int], table: str = "numbers", name: str = "part-0.parquet") -> Lake:
    lake = Lake.of(settings)
    with lake.write(table, settings) as pending:
        with local_draft(pending.path / name) as file:
            file.parent.mkdir(exist_ok=True)
            pd.DataFrame({"value": values}).to_parquet(file, index=False)
        pending.stats["largest"] = max(values)
    return lake


@pytest.fixture(params=["here", "memory"])
def anywhere(request: pytest.FixtureRequest, settings: PipelineSettings, tmp_path: Path) -> PipelineSettings:
    """Settings with a lake in the home folder, and with one in an object store."""
    place = "" if request.param == "here" else f"memory://bucket/{tmp_path.name}"
    return settings.model_copy(update={"lake": place})


def versions(lake: Lake, settings: PipelineSettings, table: str = "numbers") -> set[str]:
    folder = lake.root / table / f"date={settings.ds}"
    assert not [path.name for path in folder.iterdir() if not path.name.startswith("v-") and path.name != "CURRENT"]
    return {path.name for path in folder.iterdir()} - {"CURRENT"}


def test_a_published_table_can_be_read_with_its_manifest(anywhere: PipelineSettings) -> None:
    lake = publish(anywhere, [1, 2, 3])
    manifest = lake.manifest("numbers", anywhere.date)
    assert lake.read_pandas("numbers", anywhere.date)["value"].tolist() == [1, 2, 3]
    assert manifest["rows"] == 3 and manifest["stats"] == {"largest": 3}
    assert manifest["config_hash"] == anywhere.config_hash() and manifest["git_sha"]


def test_same_rows_same_version_whatever_the_file_is_called(anywhere: PipelineSettings) -> None:
    first = publish(anywhere, [1, 2, 3]).manifest("numbers", anywhere.date)
    second = publish(anywhere, [1, 2, 3], name="part-1-other.parquet").manifest("numbers", anywhere.date)
    assert first["digest"] == second["digest"] and first["version"] == second["version"]
    assert publish(anywhere, [1, 2, 4]).manifest("numbers", anywhere.date)["digest"] != first["digest"]


def test_the_digest_follows_the_rows_and_not_the_encoding_of_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"value": [1, 2, None], "vector": [[1.0, 2.0], None, [3.0]], "name": ["a", None, "c"]})
    digests = []
    for folder, changes in (("plain", {}), ("other", {"compression": "gzip", "use_dictionary": False}), ("rows", {})):
        (tmp_path / folder).mkdir()
        written = frame.assign(value=[1, 2, 4]) if folder == "rows" else frame
        written.to_parquet(tmp_path / folder / "part.parquet", index=False, **changes)
        digests.append(folder_digest(tmp_path / folder))
    assert digests[0] == digests[1] != digests[2]


def test_a_failing_writer_leaves_the_published_table_as_it_was(anywhere: PipelineSettings) -> None:
    lake = publish(anywhere, [1])
    with pytest.raises(RuntimeError, match="half way"), lake.write("numbers", anywhere) as pending:
        pending.path.mkdir()
        (pending.path / "half").write_text("x")
        raise RuntimeError("half way")
    assert lake.read_pandas("numbers", anywhere.date)["value"].tolist() == [1]
    assert versions(lake, anywhere) == {lake.path("numbers", anywhere.date).name}


def age(monkeypatch: pytest.MonkeyPatch, lake: Lake, settings: PipelineSettings) -> None:
    """Make all that was written so far older than anything that a running step could still use."""
    time.sleep(1.1)  # names and manifests count whole seconds
    monkeypatch.setattr(lake_module, "KEPT_FOR", dt.timedelta(seconds=1))


def test_a_replaced_version_stays_until_nobody_can_be_reading_it(
    anywhere: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = publish(anywhere, [1])
    path = lake.path("numbers", anywhere.date)
    for value in (2, 3, 4):
        publish(anywhere, [value])
    assert lake.root.joinpath("numbers", f"date={anywhere.ds}", path.name, "part-0.parquet").exists()
    assert lake.read_pandas("numbers", anywhere.date)["value"].tolist() == [4]
    age(monkeypatch, lake, anywhere)
    in_force = lake.path("numbers", anywhere.date).name
    publish(anywhere, [5])  # the version that was in force has been replaced only now
    assert versions(lake, anywhere) == {in_force, lake.path("numbers", anywhere.date).name}


def test_what_a_killed_writer_left_is_removed_by_the_writer_of_a_later_date(
    anywhere: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake.of(anywhere)
    left = lake.root / "numbers" / f"date={anywhere.ds}" / "v-20260101T000000-0123abcd"
    left.mkdir(parents=True)
    (left / "part-0.parquet").write_bytes(b"half")
    with pytest.raises(DataError, match="no table 'numbers'"):
        lake.path("numbers", anywhere.date)
    publish(anywhere.model_copy(update={"date": anywhere.date - dt.timedelta(days=1)}), [1])
    assert left.exists()
    publish(anywhere.model_copy(update={"date": anywhere.date + dt.timedelta(days=1)}), [1])
    assert not left.exists()


def test_a_damaged_version_is_not_kept_for_its_name(anywhere: PipelineSettings) -> None:
    lake = publish(anywhere, [1, 2])
    before = lake.path("numbers", anywhere.date)
    (before / "part-0.parquet").write_bytes(b"damaged")
    publish(anywhere, [1, 2])
    assert lake.path("numbers", anywhere.date) != before
    assert lake.read_pandas("numbers", anywhere.date)["value"].tolist() == [1, 2]


@pytest.mark.slow
def test_a_reader_always_sees_one_whole_version_whoever_writes_or_is_killed(settings: PipelineSettings) -> None:
    lake = Lake.of(settings)

    def start(what: str, value: int, times: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.jobs.lake_process", what, str(settings.home), "", str(value), str(times)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    dice = random.Random(7)
    # One writer always writes the same rows, another writes other rows each time. More of the first kind are killed.
    others = [start("read", 0, 200), start("write", 1, 40), start("write", 0, 40)]
    for killed in [start("write", 1, 10_000) for _ in range(4)]:
        assert killed.stdout and killed.stdout.readline() == "begins\n"
        time.sleep(dice.uniform(0, 0.3))
        killed.kill()
        killed.wait()
    assert [process.wait(120) for process in others] == [0, 0, 0]
    with lake.write("numbers", settings) as pending:
        lake_process.put(pending, 3)
    assert set(lake.read("numbers", settings.date)["value"].to_pylist()) == {3}


def test_inputs_are_recorded_by_digest(anywhere: PipelineSettings) -> None:
    lake = publish(anywhere, [1])
    with lake.write("doubled", anywhere, inputs=["numbers"]) as pending:
        (pending.path / "note.txt").parent.mkdir(parents=True)
        (pending.path / "note.txt").write_text("two")
    assert lake.manifest("doubled", anywhere.date)["inputs"] == {"numbers": lake.manifest("numbers", anywhere.date)["digest"]}


def test_dates(anywhere: PipelineSettings) -> None:
    days = [dt.date(2026, 1, day) for day in (26, 28, 30)]
    for day in days:
        lake = publish(anywhere.model_copy(update={"date": day}), [day.day])
    assert lake.dates("numbers") == days
    assert lake.previous_date("numbers", dt.date(2026, 1, 30)) == days[1]
    assert lake.previous_date("numbers", dt.date(2026, 1, 26)) is None


def test_a_missing_table_says_what_to_do(anywhere: PipelineSettings) -> None:
    assert Lake.of(anywhere).dates("numbers") == [] and Lake.of(anywhere).previous_date("numbers", anywhere.date) is None
    with pytest.raises(DataError, match=r"no table 'numbers' is published for 2026-01-28.*Remedy"):
        Lake.of(anywhere).path("numbers", anywhere.date)
    with pytest.raises(ValueError, match="snake_case"):
        Lake.of(anywhere).exists("../numbers", anywhere.date)
    with pytest.raises(RuntimeError, match="nothing was written"), Lake.of(anywhere).write("numbers", anywhere):
        pass


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"x": 1})
    write_json(tmp_path / "a" / "b.json", {"x": 2})
    assert (tmp_path / "a" / "b.json").read_text() == '{\n  "x": 2\n}\n'
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
    assert len(folder_digest(tmp_path)) == 64
