import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from esans_core.towers import TwoTower
from jobs import register
from jobs.base.errors import DataError, GateFailed
from jobs.base.files import write_json
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client, start_or_resume_run
from jobs.gates.stages import STAGES
from jobs.lake.tables import Lake
from jobs.registry import judge, promote
from jobs.registry.anchor import anchor_of
from jobs.registry.versions import (
    MAX_TEXT,
    aliased_version,
    download_artifact,
    download_version,
    find_version,
    incumbent_version,
)
from jobs.serving.verified import IN_MODEL, verify
from jobs.training.model_store import save_towers, weights_digest
from tests.jobs.records import metrics, publish_frame

pytestmark = pytest.mark.mlflow

NUM_ITEMS, NUM_USERS = 40, 120
FIRST_DAY = dt.date(2026, 1, 28)


def on_day(settings: PipelineSettings, day: int, **registry: object) -> PipelineSettings:
    changes = {"date": FIRST_DAY + dt.timedelta(days=day)}
    return settings.model_copy(update=changes | {"registry": settings.registry.model_copy(update=registry)})


def prepare_day(
    settings: PipelineSettings,
    *,
    recall: float = 0.2,
    champion: float | None = None,
    anchor: float | None = None,
    seed: int = 0,
    again: int = 0,
    baseline: float = 0.15,
    **changes: object,
) -> None:
    """Write all that a day has in its lake and run folder before it registers. The challenger's recall is `recall` on average.

    Recall differs from user to user as much for every model, so that an interval has no width. The weights follow from the date
    and `seed`, and the run key from `again` too.
    """
    lake, rng = Lake.of(settings), np.random.default_rng(seed)
    ids = [f"i{n:03d}" for n in range(NUM_ITEMS)]
    counts = np.arange(NUM_ITEMS)[::-1]
    items = pd.DataFrame({"item_index": range(NUM_ITEMS), "item_id": ids, "num_train": counts, "day": str(settings.date)})
    publish_frame(settings, "items", items)
    publish_frame(settings, "interactions", items, split="window")
    publish_frame(settings, "sequences", pd.DataFrame({"item_index": [[3, 1, 2], [5, 6]], "num_train": [2, 2]}))
    for name in ("baseline", "clusters", "visual_features", "text_features", "behaviour_features"):
        publish_frame(settings, name, items)
    with lake.write("codebooks", settings) as pending:
        write_json(pending.path / "codebooks.json", {"num_primary": 8})
    torch.manual_seed(settings.date.toordinal() + seed)
    towers = TwoTower(torch.randn(NUM_ITEMS, 6), torch.ones(NUM_ITEMS, dtype=torch.bool), dim=16, num_heads=2, max_history=8)
    with lake.write("challenger", settings, inputs=("items", "sequences")) as pending:
        save_towers(pending.path, towers.eval(), ids, {"seed": seed})
        key = f"key-{settings.ds}-{seed}" + (f"-{again}" if again else "")
        pending.stats = {"run_key": key, "mlflow_run_id": "none", "method": "esans", "best_epoch": 2}
        pending.stats |= {"weights": weights_digest(pending.path)}
    noise = rng.normal(0, 0.05, NUM_USERS)
    others = {"champion": champion, "anchor": anchor}
    levels = {"challenger": recall, "baseline": baseline} | {name: level for name, level in others.items() if level is not None}
    frames = [
        pd.DataFrame({"model": name, "user_index": range(NUM_USERS), "recall_50": level + noise - noise.mean()})
        for name, level in levels.items()
    ]
    publish_frame(settings, "evaluation", pd.concat(frames), inputs=("challenger", "baseline"))
    incumbent = incumbent_version(settings)
    models = {name: metrics(recall_50=level) for name, level in levels.items()}
    models["challenger"] |= changes
    write_json(
        settings.run_dir / "metrics.json",
        {
            "users": NUM_USERS,
            "models": {"champion": None} | models,
            "popularity": {"recall_50": 0.05, "recall_200": 0.1},
            "incumbent_version": None if incumbent is None else incumbent.version,
            "incumbent_note": None,
            "anchor_version": None if incumbent is None else anchor_of(settings, incumbent).number,
            "anchor_note": None,
        },
    )
    judged = {
        "raw": (),
        "features": ("visual_features", "text_features", "behaviour_features"),
        "clusters": ("clusters",),
        "training_set": ("sequences", "interactions", "items"),
        "model": ("challenger", "baseline", "evaluation"),
    }
    for stage in STAGES:
        digests = {name: lake.manifest(name, settings.date)["digest"] for name in judged[stage]}
        write_gate(settings, stage, digests=digests)


def write_gate(settings: PipelineSettings, stage: str, **changes: object) -> None:
    record = {"stage": stage, "success": True, "worst": None, "checked": 3, "failures": [], "digests": {}, "data_docs": None}
    write_json(settings.run_dir / "gates" / f"{stage}.json", record | changes)


def enter(settings: PipelineSettings) -> str:
    """Register the day's challenger without exporting a model. The version has only the trained files."""
    lake, name = Lake.of(settings), settings.registry.model_name
    key = lake.manifest("challenger", settings.date)["stats"]["run_key"]
    registry = client(settings)
    if not registry.search_registered_models(f"name = '{name}'"):
        registry.create_registered_model(name)
    with start_or_resume_run(settings, key, "test") as run:
        mlflow.log_artifacts(str(lake.path("challenger", settings.date)), "model/artifacts/model")
    source = f"{run.info.artifact_uri}/model"
    tags = {"esans.run_key": key, "esans.date": settings.ds}
    version = registry.create_model_version(name, source, run_id=run.info.run_id, tags=tags)
    return str(version.version)


def settle(settings: PipelineSettings) -> dict:
    """Judge the day's challenger and carry the verdict out."""
    judge.run(settings)
    return promote.run(settings)


def verdict(settings: PipelineSettings) -> dict:
    return json.loads((settings.run_dir / "verdict.json").read_text())


def alias(settings: PipelineSettings) -> str | None:
    found = aliased_version(settings)
    return None if found is None else str(found.version)


def test_registering_twice_makes_one_version_that_loads_without_pickle(
    settings: PipelineSettings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CTX_DAG_RUN_ID", "manual__1")
    prepare_day(settings)
    write_gate(
        settings, "clusters", worst="warning", failures=[{"severity": "warning", "message": "labels moved", "column": None}]
    )
    first = register.run(settings)
    registry = client(settings)
    before = registry.get_model_version(settings.registry.model_name, first["version"])
    again = register.run(settings)
    assert first["new"] is True
    assert again == first | {"new": False}
    versions = registry.search_model_versions(f"name = '{settings.registry.model_name}'")
    assert [str(version.version) for version in versions] == [first["version"]]
    assert registry.get_model_version(before.name, before.version) == before
    experiment = registry.get_experiment_by_name(settings.registry.experiment)
    runs = registry.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    assert runs[0].data.metrics["holdout_recall_50"] == 0.2
    assert experiment.artifact_location == (home / "mlflow" / "artifacts").as_uri()

    tags = before.tags
    assert tags["esans.dag_run_id"] == "manual__1"
    assert tags["esans.gate.clusters"] == "warning"
    assert tags["esans.gate.raw"] == "passed"
    assert tags["validation_status"] == "pending"
    assert tags["esans.config_hash"] == settings.config_hash()
    assert set(json.loads(tags["esans.data_digests"])) == {"items", "sequences"}
    for word in (
        "# esans-retrieval, trained for 2026-01-28",
        "against baseline: +0.0500",
        "no champion",
        "labels moved",
        "esans",
    ):
        assert word in before.description
    assert len(before.description) < MAX_TEXT

    folder = download_version(before, settings)
    assert {path.name for path in folder.iterdir()} == {"towers.safetensors", "model.json", "item_ids.parquet", "MODEL_CARD.md"}
    assert not [path for path in folder.parents[1].rglob("*") if path.suffix in (".pkl", ".pth", ".pickle")]
    bundle = download_artifact(before, settings, IN_MODEL)
    assert tags["esans.bundle_digest"] == verify(bundle)["digest"]
    assert runs[0].data.metrics["serving_recall_200"] == 1 and runs[0].data.metrics["serving_p99_ms"] > 0


def test_a_run_is_resumed_by_its_key_and_date(settings: PipelineSettings, home: Path) -> None:
    with start_or_resume_run(settings, "k", "first") as run:
        mlflow.log_param("a", 1)
    with start_or_resume_run(settings, "k", "second") as again:
        mlflow.log_metric("b", 2.0)
    with start_or_resume_run(on_day(settings, 1), "k", "third") as tomorrow:
        pass
    assert again.info.run_id == run.info.run_id != tomorrow.info.run_id
    found = client(settings).get_run(run.info.run_id)
    assert (found.info.run_name, found.data.params, found.data.metrics) == ("first", {"a": "1"}, {"b": 2.0})


def test_the_line_of_champions(settings: PipelineSettings, home: Path) -> None:
    monday, tuesday, wednesday = (on_day(settings, day) for day in range(3))

    prepare_day(monday)
    one = enter(monday)
    assert incumbent_version(monday) is None
    assert settle(monday)["verdict"] == "promoted"
    assert alias(monday) == one
    said, stored = verdict(monday), find_version(monday, f"key-{monday.ds}-0")
    settle(monday)
    assert verdict(monday) == said
    assert find_version(monday, f"key-{monday.ds}-0") == stored
    assert stored.tags["esans.replaced_version"] == ""
    assert stored.tags["validation_status"] == "passed"

    prepare_day(tuesday, recall=0.15, champion=0.2)
    two = enter(tuesday)
    assert settle(tuesday)["verdict"] == "kept_champion"
    assert alias(tuesday) == one
    assert verdict(tuesday)["incumbent_version"] == one
    (compared,) = verdict(tuesday)["comparisons"]
    assert compared["role"] == "champion" and compared["change"]["mean"] == pytest.approx(-0.25)
    assert find_version(tuesday, f"key-{tuesday.ds}-0").tags["validation_status"] == "failed"

    prepare_day(wednesday, recall=0.22, champion=0.2)
    three = enter(wednesday)
    assert settle(wednesday)["verdict"] == "promoted"
    assert alias(wednesday) == three
    assert str(incumbent_version(wednesday).version) == one
    said = verdict(wednesday)
    settle(wednesday)
    assert verdict(wednesday) == said
    tags = find_version(wednesday, f"key-{wednesday.ds}-0").tags
    assert tags["esans.replaced_version"] == one
    assert tags["esans.verdict"] == "promoted"

    settle(monday)
    assert alias(monday) == three
    assert verdict(monday)["verdict"] == "promoted"
    assert "has taken its place since" in verdict(monday)["reasons"][-1]

    prepare_day(tuesday, recall=0.3, champion=0.2, seed=1)
    enter(tuesday)
    assert settle(tuesday)["verdict"] == "champion_is_newer"
    assert verdict(tuesday)["passed"] is True
    assert alias(tuesday) == three

    # Other settings on the champion's own date: the same opponent, the alias moves, and moves back without a circle.
    prepare_day(wednesday, recall=0.25, champion=0.2, seed=2)
    five = enter(wednesday)
    assert settle(wednesday)["verdict"] == "promoted"
    assert (alias(wednesday), verdict(wednesday)["incumbent_version"]) == (five, one)
    prepare_day(wednesday, recall=0.22, champion=0.2)
    settle(wednesday)
    assert (alias(wednesday), str(incumbent_version(wednesday).version)) == (three, one)
    assert two not in (one, three)


def test_policy_and_floors(settings: PipelineSettings, home: Path) -> None:
    never = on_day(settings, 0, promotion="never")
    prepare_day(never)
    enter(never)
    assert settle(never)["verdict"] == "not_promoted_by_policy"
    assert verdict(never)["passed"] is True
    assert alias(never) is None

    prepare_day(settings, recall=0.001, seed=1)
    enter(settings)
    assert settle(settings)["verdict"] == "no_champion"
    assert alias(settings) is None


def test_a_failed_missing_or_outdated_gate_leaves_the_champion(settings: PipelineSettings, home: Path) -> None:
    prepare_day(settings)
    one = enter(settings)
    settle(settings)
    tomorrow = on_day(settings, 1)
    prepare_day(tomorrow, recall=0.4, champion=0.2)
    enter(tomorrow)
    good = json.loads((tomorrow.run_dir / "gates" / "model.json").read_text())
    bad = {"severity": "critical", "message": "collapsed", "column": "x"}
    for record, reason in (
        (good | {"success": False, "worst": "critical", "failures": [bad]}, "gate model failed: collapsed"),
        (good | {"checked": 0}, "nothing was checked"),
        (good | {"digests": {"challenger": "0"}}, "judged other data"),
        (None, "gate model has not been run"),
    ):
        write_gate(tomorrow, **(record or good))
        if record is None:
            (tomorrow.run_dir / "gates" / "model.json").unlink()
        with pytest.raises(GateFailed, match=reason):
            settle(tomorrow)
        assert alias(tomorrow) == one
        assert verdict(tomorrow)["verdict"] == "blocked_by_gate"
        assert verdict(tomorrow)["passed"] is False
    write_gate(tomorrow, **good)
    assert settle(tomorrow)["verdict"] == "promoted"


def test_a_champion_that_cannot_be_compared_leaves_the_baseline_to_beat(settings: PipelineSettings, home: Path) -> None:
    prepare_day(settings)
    enter(settings)
    settle(settings)
    tomorrow = on_day(settings, 1)
    prepare_day(tomorrow, recall=0.1)
    enter(tomorrow)
    assert settle(tomorrow)["verdict"] == "kept_champion"
    assert "below the uniform-negatives baseline of the same night" in verdict(tomorrow)["reasons"][0]
    assert "champion version 1 cannot be compared, and the baseline takes its place" in "; ".join(verdict(tomorrow)["reasons"])
    prepare_day(tomorrow, recall=0.2, seed=1)
    enter(tomorrow)
    assert settle(tomorrow)["verdict"] == "promoted"


def test_what_does_not_belong_together_is_refused(settings: PipelineSettings, home: Path) -> None:
    with pytest.raises(DataError, match="run evaluate"):
        settle(settings)
    prepare_day(settings)
    with pytest.raises(DataError, match="run register"):
        settle(settings)
    enter(settings)
    settle(settings)
    tomorrow = on_day(settings, 1)
    prepare_day(tomorrow, champion=0.2)
    enter(tomorrow)
    path = tomorrow.run_dir / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"incumbent_version": "7"}))
    with pytest.raises(DataError, match="compared with champion version 7"):
        settle(tomorrow)
    with Lake.of(tomorrow).write("challenger", tomorrow) as pending:
        write_json(pending.path / "model.json", {"other": 1})
        pending.stats = {"run_key": f"key-{tomorrow.ds}-0"}
    with pytest.raises(DataError, match="another challenger"):
        settle(tomorrow)
    assert verdict(settings)["verdict"] == "promoted"
    assert not (tomorrow.run_dir / "verdict.json").exists()


def test_jobs_that_start_together_make_one_store(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom jobs.base.tracking import client\nfrom jobs.base.settings import PipelineSettings\n"
        f"client(PipelineSettings(home={str(tmp_path)!r}))"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for job in jobs:
        _, errors = job.communicate()
        assert job.returncode == 0, errors
