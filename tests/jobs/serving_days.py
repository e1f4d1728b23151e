"""Days whose versions carry a tiny serving bundle, and actions as commands, for the tests of actions that people start."""

import json
import runpy
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from esans_core.serving.bundle_files import BUNDLE, file_digests, overall_digest
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.lake.tables import Lake
from jobs.registry import judge, promote
from jobs.registry.champion import tag_version
from jobs.registry.versions import CHAMPION, numbered_version
from jobs.serving.store import ServingStore
from tests.jobs.registry.test_registry import enter, prepare_day


def enter_with_bundle(settings: PipelineSettings, **changes: Any) -> str:
    """Number of a version of the day, judged, that carries a bundle of one file."""
    prepare_day(settings, **changes)
    number = enter(settings)
    version = numbered_version(settings, number)
    assert version is not None
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model.txt").write_text(f"version {number}")
        weights = Lake.of(settings).manifest("challenger", settings.date)["stats"]["weights"]
        about = {"date": settings.ds, "run_key": version.tags["esans.run_key"], "weights": weights}
        files = file_digests(folder)
        content = {"about": about, "files": files, "digest": overall_digest(about, files)}
        write_json(folder / BUNDLE, content)
        client(settings).log_artifacts(version.run_id, scratch, "model/artifacts/bundle")
    tag_version(settings, version, {"esans.bundle_digest": content["digest"]})
    judge.run(settings)
    return number


def publish_day(settings: PipelineSettings, **changes: Any) -> str:
    """Name of the bundle in force after a day whose challenger was promoted and published."""
    enter_with_bundle(settings, **changes)
    assert promote.run(settings)["verdict"] == "promoted"
    assert act("publish_champion", settings, f"publish-{settings.ds}")[0] == 0
    return str(ServingStore.of(settings).current())


def move_alias(settings: PipelineSettings, number: str) -> None:
    """Move the alias to a version, as anybody can do in MLflow."""
    client(settings).set_registered_model_alias(settings.registry.model_name, CHAMPION, number)


def run_folder(settings: PipelineSettings, number: str) -> Path:
    """The artefacts of a version's run."""
    version = numbered_version(settings, number)
    assert version is not None
    return Path(client(settings).get_run(version.run_id).info.artifact_uri.removeprefix("file://"))


def act(name: str, settings: PipelineSettings, action: str, **options: str | None) -> tuple[int, dict[str, Any]]:
    """Exit status and record of a command (an empty one if it left none); `by` is ann and `reason` "because".

    An option whose value is None is given without a value.
    """
    given = {"home": str(settings.home), "action": action, "by": "ann", "reason": "because"} | options
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sys,
            "argv",
            [name, *(f"--{option}={value}" if value is not None else f"--{option}" for option, value in given.items())],
        )
        patch.delitem(sys.modules, f"jobs.{name}", raising=False)
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(f"jobs.{name}", run_name="__main__")
    record = settings.home / "actions" / action / f"{name}.json"
    return int(ended.value.code or 0), json.loads(record.read_text()) if record.is_file() else {}
