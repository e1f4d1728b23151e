"""Versions and bundles after a user was forgotten: what is signed stays genuine, and the models that are left are listed."""

import datetime as dt
import json
import shutil
from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.forget.erase import Request, forget
from jobs.forget.models import models_left
from jobs.registry import judge
from jobs.registry.champion import tag_version
from jobs.registry.decisions import Review, read_decision, sign_decision
from jobs.registry.gate_report import check_gate_report
from jobs.registry.versions import numbered_version
from jobs.serving.store import ServingStore
from tests.jobs.forget.forget_home import files_naming
from tests.jobs.registry.test_gate_report import artifacts, report_file
from tests.jobs.registry.test_registry import enter, on_day, prepare_day, write_gate
from tests.jobs.serving_days import publish_day

pytestmark = pytest.mark.mlflow
GONE = "u0002"
SAID = f"interactions.item_id: observed 1 row, such as row 5, user_id {GONE}, item_id (none) (None)"


def test_a_signed_report_that_quotes_the_user_is_signed_again_and_the_version_may_still_serve(
    settings: PipelineSettings, home: Path
) -> None:
    prepare_day(settings)
    write_gate(settings, "raw", worst="warning", failures=[{"severity": "warning", "message": SAID, "column": "item_id"}])
    version = numbered_version(settings, enter(settings))
    assert version is not None
    model = artifacts(settings, version) / "model"
    (model / "MLmodel").write_text("flavors: {}\n")
    (model / "code.py").write_text(f"# {GONE}: a file of the model, which nobody may change\n")
    (model / "artifacts" / "model" / "MODEL_CARD.md").write_text(f"# Card\n\n- raw: 1 not met (warning: {SAID[:90]})\n")
    client(settings).update_model_version(version.name, version.version, f"card: {SAID}")
    judge.run(settings)
    tag_version(settings, version, {"esans.verdict_reasons": SAID, "esans.git_sha": "abc"})
    report = check_gate_report(settings, version)
    assert GONE in report_file(settings, version).read_text()
    yes = Review(decision="approved", by="bob", at=dt.datetime(2026, 1, 28, tzinfo=dt.UTC), reason=f"I looked at {GONE} too")
    sign_decision(settings, version, report.subject, yes)

    forget(settings, Request(GONE, "ada"))
    after = check_gate_report(settings, version)  # its signature and the digests of all files hold
    assert after.files.keys() == report.files.keys()
    changed = {path for path, digest in after.files.items() if digest != report.files[path]}
    assert changed == {"artifacts/model/MODEL_CARD.md"}
    decision = read_decision(settings, version, after.subject)
    assert decision is not None and decision.reason == "I looked at (forgotten) too"
    now = client(settings).get_model_version(version.name, version.version)
    assert now.description == f"card: {SAID}".replace(GONE, "(forgotten)")
    assert "(forgotten)" in now.tags["esans.verdict_reasons"] and now.tags["esans.git_sha"] == "abc"
    assert [Path(name).name for name in files_naming(home, GONE)] == ["code.py"]


def test_a_report_that_somebody_has_forged_is_not_signed(settings: PipelineSettings, home: Path) -> None:
    prepare_day(settings)
    version = numbered_version(settings, enter(settings))
    assert version is not None
    judge.run(settings)
    path = report_file(settings, version)
    sealed = json.loads(path.read_text())
    sealed["content"] |= {"reasons": [SAID], "verdict": "passed"}
    path.write_text(json.dumps(sealed))
    forget(settings, Request(GONE, "ada"))
    after = json.loads(path.read_text())
    assert after["signature"] == sealed["signature"] and GONE not in path.read_text()


def test_models_that_learned_from_the_user_are_listed_with_how_long_they_stay(settings: PipelineSettings, home: Path) -> None:
    days = [on_day(settings, number) for number in range(3)]
    for seed, day in enumerate(days):
        publish_day(day, seed=seed, recall=0.2 + 0.02 * seed)
    store = ServingStore.of(settings)
    first, second, third = store.names()
    shutil.rmtree(home / "lake" / "users", ignore_errors=True)
    for day in days[1:]:  # the lake still has the users of two dates; the user was in the second one
        (home / "lake" / "users" / f"date={day.ds}").mkdir(parents=True)
    left = models_left(settings, [days[1].date], dt.date(2026, 2, 1))
    bundles = {model["name"]: model for model in left if model["kind"] == "bundle"}
    assert set(bundles) == {first, second}  # of the first date nobody knows any more who was in it
    assert store.current() == third and not any(model["in_force"] for model in left)
    # Ten newer bundles push one out, and one newer is there already.
    assert bundles[second]["out_of_force_from"] == "2026-02-10" and "9 more bundles" in bundles[second]["until"]
    assert [model["name"] for model in left if model["kind"] == "version"] == ["esans-retrieval 2", "esans-retrieval 1"]
    serving = models_left(settings, [days[2].date], dt.date(2026, 2, 1))
    dated = [(model["kind"], model["name"], model["out_of_force_from"]) for model in serving if model["in_force"]]
    assert dated == [("bundle", third, "2026-02-02"), ("version", "esans-retrieval 3", "2026-02-02")]
    assert {model["until"] for model in serving if model["in_force"]} == {"the next promotion"}
    assert all("run esans_daily_retraining" in model["what_you_can_do"] for model in serving if model["in_force"])
