import json
from pathlib import Path

import pytest

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.source import prepare
from jobs.step.runtime import load_settings
from tests.agreements import agree
from tests.jobs import source_builder as build


def with_source(settings: PipelineSettings, source: str) -> PipelineSettings:
    return settings.model_copy(update={"data": settings.data.model_copy(update={"source": source})})


def test_the_embedded_shop_is_made_and_the_settings_are_frozen(settings: PipelineSettings) -> None:
    summary = prepare.run(settings)
    source = json.loads((settings.run_dir / "source.json").read_text())
    folder = settings.home / "source" / "date=2026-01-28"
    assert (source["uri"], source["kind"]) == (folder.as_uri(), "embedded")
    assert [part["written"] for table in source["landing"]["tables"].values() for part in table["parts"]] == [False] * 2
    assert (folder / "interactions.parquet").exists()
    assert (folder / "items.parquet").exists()
    assert (settings.home / "truth" / "date=2026-01-28" / "users.parquet").exists()
    assert summary["config_hash"] == settings.config_hash()
    assert load_settings(["--settings", str(settings.run_dir / "settings.json")]) == settings


@pytest.mark.parametrize("as_uri", [False, True])
def test_a_folder_is_taken_by_path_or_by_uri(settings: PipelineSettings, tmp_path: Path, as_uri: bool) -> None:
    folder = build.write_source(tmp_path / "my data")
    prepare.run(with_source(settings, folder.as_uri() if as_uri else str(folder)))
    source = json.loads((settings.run_dir / "source.json").read_text())
    assert (source["uri"], source["kind"]) == (folder.as_uri(), "folder")
    assert set(source["landing"]["tables"]) == {"interactions", "items"}
    assert not (settings.home / "source").exists()


def test_a_missing_folder_is_named_and_nothing_is_frozen(settings: PipelineSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/nowhere: the source folder does not exist.*data\.source"):
        prepare.run(with_source(settings, str(tmp_path / "nowhere")))
    assert not settings.run_dir.exists()


def test_a_file_is_no_folder(settings: PipelineSettings, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="is a file, not a folder"):
        prepare.run(with_source(settings, str(tmp_path / "log.csv")))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("s3://bucket/shop", "Install s3fs"),
        ("file://elsewhere/data", "on another machine"),
        ("https://example.org/data", "Spark has no file system for 'https'"),
    ],
)
def test_a_source_that_cannot_be_reached_is_refused(settings: PipelineSettings, source: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        prepare.run(with_source(settings, source))


@pytest.mark.parametrize("date", ["2019-05-01", "2099-01-01"])
def test_a_date_the_shop_does_not_have_is_refused_with_its_range(settings: PipelineSettings, date: str) -> None:
    far = PipelineSettings(**(settings.model_dump() | {"date": date}))
    with pytest.raises(DataError, match=rf"no data for {date}; it runs from 2024-12-24 to 2031-01-27\. Remedy"):
        prepare.run(far)
    assert not far.run_dir.exists()


def test_records_of_an_earlier_run_are_not_taken_for_this_one(settings: PipelineSettings, tmp_path: Path) -> None:
    stale = ["steps/evaluate.json", "gates/raw.json", "metrics.json", "verdict.json", "review.json", "summary.json"]
    for name in stale:
        path = settings.run_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    with pytest.raises(DataError):
        prepare.run(with_source(settings, str(tmp_path / "nowhere")))
    assert not [name for name in stale if (settings.run_dir / name).exists()]


def test_a_backfill_of_features_leaves_the_records_of_the_retraining(settings: PipelineSettings) -> None:
    retraining = [settings.run_dir / name for name in ("settings.json", "verdict.json", "steps/evaluate.json")]
    for path in retraining:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    features = PipelineSettings(**(settings.model_dump() | {"run": {"records": "feature_runs"}}))
    prepare.run(features)
    assert {path.read_text() for path in retraining} == {"{}"}
    frozen = load_settings(["--settings", str(settings.home / "feature_runs" / settings.ds / "settings.json")])
    assert frozen.run_dir == features.run_dir != settings.run_dir
    assert frozen.config_hash() == settings.config_hash()


def test_a_run_keeps_what_was_agreed_when_it_began(settings: PipelineSettings) -> None:
    agree(settings.home, {"training.temperature": 0.04, "training.epochs": 3})
    prepare.run(PipelineSettings(home=settings.home, shop=settings.shop, training={"epochs": 2}))
    record = json.loads((settings.run_dir / "agreed.json").read_text())
    assert record["settings"] == {"training.temperature": 0.04, "training.epochs": 3}
    assert (record["by"], record["otherwise"]) == ("ann", {"training.epochs": 2})
    frozen = load_settings(["--settings", str(settings.run_dir / "settings.json")])
    (settings.home / "agreed_settings.json").unlink()
    assert frozen == load_settings(["--settings", str(settings.run_dir / "settings.json")])
    assert (frozen.training.temperature, frozen.training.epochs) == (0.04, 2)
    prepare.run(settings)
    assert not (settings.run_dir / "agreed.json").exists()
