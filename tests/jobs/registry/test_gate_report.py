import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.registry import judge
from jobs.registry.gate_report import check_gate_report
from jobs.registry.signing import seal, unseal
from jobs.registry.versions import numbered_version
from tests.jobs.registry.test_registry import alias, enter, on_day, prepare_day, settle

pytestmark = pytest.mark.mlflow

KEY = "0123456789abcdef0123456789abcdef"


def judged(settings: PipelineSettings, **changes: object) -> ModelVersion:
    prepare_day(settings, **changes)
    number = enter(settings)
    judge.run(settings)
    version = numbered_version(settings, number)
    assert version is not None
    return version


def artifacts(settings: PipelineSettings, version: ModelVersion) -> Path:
    """Folder of a version's run, where everybody who reaches MLflow may write."""
    return Path(client(settings).get_run(version.run_id).info.artifact_uri.removeprefix("file://"))


def report_file(settings: PipelineSettings, version: ModelVersion) -> Path:
    (path,) = (artifacts(settings, version) / "gate_report").glob("*.json")
    return path


def change(path: Path, **changes: object) -> None:
    sealed = json.loads(path.read_text())
    sealed["content"] |= changes
    path.write_text(json.dumps(sealed))


def test_the_report_says_what_was_judged_and_a_repeat_gives_the_same_bytes(settings: PipelineSettings, home: Path) -> None:
    version = judged(settings)
    text = report_file(settings, version).read_bytes()
    report = check_gate_report(settings, version)
    assert (report.model, report.version, report.date) == ("esans-retrieval", "1", settings.ds)
    assert (report.verdict, report.policy, report.incumbent_version) == ("passed", "auto", "")
    assert set(report.gates) == {"raw", "features", "clusters", "training_set", "model"}
    assert report.gates["model"]["digests"].keys() == {"challenger", "baseline", "evaluation"}
    assert any(path.endswith("towers.safetensors") for path in report.files)
    assert alias(settings) is None  # judging promotes nothing
    judge.run(settings)
    assert report_file(settings, version).read_bytes() == text
    assert (home / "keys" / "gate.key").read_text().strip() not in text.decode()


TAMPERING: dict[str, tuple[str, Callable[[PipelineSettings, ModelVersion], object]]] = {
    "report gone": ("has no gate report", lambda s, v: report_file(s, v).unlink()),
    "report changed": ("signature of the gate report is wrong", lambda s, v: change(report_file(s, v), reasons=["well done"])),
    "no signature": ("no signed gate report", lambda s, v: report_file(s, v).write_text('{"content": {}}')),
    "no text": ("no signed gate report", lambda s, v: report_file(s, v).write_bytes(b"\xff\xfe\x00")),
    "file changed": (
        "towers.safetensors",
        lambda s, v: next(artifacts(s, v).rglob("towers.safetensors")).write_bytes(b"another model"),
    ),
    "file added": ("hook.py", lambda s, v: (artifacts(s, v) / "model" / "hook.py").write_text("import os")),
    "another date": (
        "is about esans-retrieval version 1 of 2026-01-28",
        lambda s, v: client(s).set_model_version_tag(v.name, v.version, "esans.date", "2099-01-01"),
    ),
    "another run": (
        "which this pipeline did not write",
        lambda s, v: client(s).set_model_version_tag(v.name, v.version, "esans.run_key", "../../other"),
    ),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_what_was_tampered_with_is_refused(settings: PipelineSettings, home: Path, name: str) -> None:
    version = judged(settings)
    check_gate_report(settings, version)
    reason, tamper = TAMPERING[name]
    tamper(settings, version)
    with pytest.raises(DataError, match=reason):
        check_gate_report(settings, numbered_version(settings, str(version.version)))


def test_a_report_signed_with_another_key_is_refused(
    settings: PipelineSettings, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = judged(settings, recall=0.001)
    path = report_file(settings, version)
    content = json.loads(path.read_text())["content"]
    with pytest.raises(DataError, match="did not pass the gate: .*recall_50 is 0.0010"):
        check_gate_report(settings, version)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("ESANS_GATE_KEY", KEY)
        path.write_text(seal(settings, "gate report", content | {"verdict": "passed"}))
    with pytest.raises(DataError, match="signed with another key"):
        check_gate_report(settings, version)


def test_the_report_of_another_version_or_date_is_refused(settings: PipelineSettings, home: Path) -> None:
    tomorrow = on_day(settings, 1)
    good, bad = judged(settings), judged(tomorrow, recall=0.001)
    report_file(tomorrow, bad).write_bytes(report_file(settings, good).read_bytes())
    with pytest.raises(DataError, match=f"is about esans-retrieval version 1 of {settings.ds}"):
        check_gate_report(tomorrow, bad)
    # A version made by hand over another model, with the tags and the run of a good one.
    copied = client(settings).create_model_version(good.name, f"{artifacts(tomorrow, bad)}/model", good.run_id, tags=good.tags)
    with pytest.raises(DataError, match="is about esans-retrieval version 1 .* this is version 3"):
        check_gate_report(settings, copied)


def test_a_version_that_is_not_the_challenger_is_not_judged(settings: PipelineSettings, home: Path) -> None:
    prepare_day(settings)
    version = numbered_version(settings, enter(settings))
    towers = next(artifacts(settings, version).rglob("towers.safetensors"))
    trained = towers.read_bytes()
    towers.write_bytes(b"another model")
    with pytest.raises(DataError, match=r"does not hold the challenger of 2026-01-28 \(towers.safetensors\)"):
        judge.run(settings)
    towers.write_bytes(trained)
    judge.run(settings)
    (towers.parent / "late.py").write_text("import os")
    with pytest.raises(DataError, match=r"not those that were judged \(artifacts/model/late.py\)"):
        judge.run(settings)
    assert not settings.run_dir.joinpath("gates", "late").exists()


def test_promotion_asks_for_the_report_again(settings: PipelineSettings, home: Path) -> None:
    from jobs.registry import promote

    version = judged(settings)
    change(report_file(settings, version), verdict="passed", policy="never")
    with pytest.raises(DataError, match="signature of the gate report is wrong"):
        promote.run(settings)
    assert alias(settings) is None
    assert settle(settings)["verdict"] == "promoted"


def test_the_key_is_made_once_and_for_its_owner_alone(settings: PipelineSettings, tmp_path: Path) -> None:
    code = (
        "from jobs.registry.signing import seal\nfrom jobs.base.settings import PipelineSettings\n"
        f"print(seal(PipelineSettings(home={str(settings.home)!r}), 'note', {{'a': 1}}))"
    )
    jobs = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(2)]
    sealed = {job.communicate()[0] for job in jobs}
    assert len(sealed) == 1
    assert unseal(settings, "note", sealed.pop(), where="x", remedy="y") == {"a": 1}
    key = settings.home / "keys" / "gate.key"
    assert (key.stat().st_mode & 0o777, key.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert len(key.read_text().strip()) == 64


def test_a_signature_holds_for_one_kind_of_record(settings: PipelineSettings) -> None:
    sealed = seal(settings, "review", {"a": 1}).encode()
    with pytest.raises(DataError, match="signature of the gate report is wrong"):
        unseal(settings, "gate report", sealed, where="x", remedy="y")


def test_the_key_may_come_from_the_environment(
    settings: PipelineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    monkeypatch.setenv("ESANS_GATE_KEY_FILE", str(file))
    sealed = seal(settings, "note", {"a": 1})
    monkeypatch.setenv("ESANS_GATE_KEY", KEY)
    assert seal(settings, "note", {"a": 1}) == sealed
    assert not (settings.home / "keys").exists()
    monkeypatch.setenv("ESANS_GATE_KEY", "tooshort")
    with pytest.raises(DataError, match="has 8 characters") as error:
        seal(settings, "note", {})
    assert "tooshort" not in str(error.value)
    monkeypatch.delenv("ESANS_GATE_KEY")
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        seal(settings, "note", {})
