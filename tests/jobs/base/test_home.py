"""A home that was moved or copied names its new place everywhere it matters, and leaves the old place alone."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from jobs.base.files import folder_digest, write_json
from jobs.base.home import home_of_settings, settle
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import start_or_resume_run
from jobs.lake.tables import Lake
from jobs.registry.versions import champion_version, incumbent_version
from jobs.serving.store import ServingStore
from jobs.step.runtime import load_settings
from tests.jobs.records import publish_frame
from tests.jobs.registry.test_registry import alias, on_day
from tests.jobs.serving_days import act, publish_day


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and bytes. Looking at a home takes its locks, which changes nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("lock"))
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def write_run(home: Path) -> Path:
    """The settings of a run, as `prepare` freezes them."""
    settings = PipelineSettings(home=home)
    write_json(settings.run_dir / "settings.json", settings.model_dump(mode="json"))
    write_json(settings.run_dir / "source.json", {"uri": (home / "source" / "a b").as_uri(), "place": str(home / "source")})
    return settings.run_dir / "settings.json"


def test_texts_name_the_new_place_and_keep_their_rights(tmp_path: Path) -> None:
    old, new = tmp_path / "old & é", tmp_path / "new"
    write_run(old)
    (old / "airflow").mkdir()
    config = old / "airflow" / "airflow.cfg"
    config.write_text(f"base_log_folder = {old}/airflow/logs\nother = {old}er/logs\n")
    config.chmod(0o600)
    assert settle(old) is None
    old.rename(new)
    assert settle(new) == old
    assert settle(new) is None
    assert (new / "airflow" / "airflow.cfg").read_text() == f"base_log_folder = {new}/airflow/logs\nother = {old}er/logs\n"
    assert (new / "airflow" / "airflow.cfg").stat().st_mode & 0o777 == 0o600
    run = new / "runs" / "2026-01-28"
    assert json.loads((run / "settings.json").read_text())["home"] == str(new)
    assert json.loads((run / "source.json").read_text()) == {
        "uri": (new / "source" / "a b").as_uri(),
        "place": str(new / "source"),
    }


def test_a_home_that_is_reached_by_two_paths_was_not_moved(tmp_path: Path) -> None:
    write_run(tmp_path / "home")
    settle(tmp_path / "home")
    other = tmp_path / "other"
    other.symlink_to(tmp_path / "home")
    assert settle(other) is None
    assert json.loads((tmp_path / "home" / "runs" / "2026-01-28" / "settings.json").read_text())["home"] == str(
        tmp_path / "home"
    )


def test_a_step_by_hand_works_in_the_home_in_which_its_settings_lie(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    frozen = write_run(old)
    shutil.copytree(old, new)
    copied = new / frozen.relative_to(old)
    assert home_of_settings(copied) == new and home_of_settings(tmp_path / "settings.json") is None
    assert load_settings(["--settings", str(copied)]).home == new
    assert load_settings(["--settings", str(frozen)]).home == old


@pytest.mark.mlflow
def test_a_copy_goes_on_with_its_own_registry_and_never_writes_into_the_other(settings: PipelineSettings, home: Path) -> None:
    write_run(home)
    bundle = publish_day(settings)
    copy = settings.model_copy(update={"home": home.parent / "copy"})
    shutil.copytree(home, copy.home)
    before = contents(home)
    assert settle(copy.home) == home
    assert ServingStore.of(copy).current() == bundle and str(champion_version(copy).version) == "1"
    tomorrow = on_day(copy, 1)
    assert publish_day(tomorrow, champion=0.2, seed=1).startswith("2026-01-29-v2-")
    assert act("rollback", tomorrow, "a")[0] == 0
    with start_or_resume_run(tomorrow, "another", "another"):
        mlflow.log_text("hello", "note.txt")
    assert list(copy.home.rglob("note.txt"))
    assert contents(home) == before
    assert alias(settings) == "1" and incumbent_version(on_day(settings, 1)) is not None


@pytest.mark.mlflow
def test_a_rollback_by_hand_is_the_first_thing_in_a_moved_home(settings: PipelineSettings, home: Path) -> None:
    write_run(home)
    bundles = [publish_day(settings), publish_day(on_day(settings, 1), champion=0.2, seed=1)]
    moved = settings.model_copy(update={"home": home.parent / "moved"})
    home.rename(moved.home)
    given = ["--home", str(moved.home), "--action", "a", "--by", "ann", "--reason", "wrong prices"]
    # In a process of its own, as a person does it: MLflow remembers within a process where the artifacts of a run are.
    done = subprocess.run([sys.executable, "-m", "jobs.rollback", *given], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (ServingStore.of(moved).current(), alias(moved)) == (bundles[0], "1")
    assert len(list((moved.home / "decisions").iterdir())) == 1  # it has read the signed report of the version it took back
    assert not home.exists()


def test_the_digest_of_features_does_not_depend_on_where_a_picture_lies(settings: PipelineSettings) -> None:

    rows = pd.DataFrame({"item_index": [0, 1], "content_hash": ["a", "b"], "file_stamp": ["/old/1", "/old/2"]})
    publish_frame(settings, "visual_features", rows)
    lake = Lake.of(settings)
    digest = lake.manifest("visual_features", settings.date)["digest"]
    publish_frame(settings, "visual_features", rows.assign(file_stamp=["/new/1", "/new/2"]))
    assert lake.manifest("visual_features", settings.date)["digest"] == digest
    publish_frame(settings, "visual_features", rows.assign(content_hash=["a", "c"]))
    assert lake.manifest("visual_features", settings.date)["digest"] != digest
    assert folder_digest(lake.path("visual_features", settings.date)) != digest
