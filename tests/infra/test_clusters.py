"""The configuration for other clusters: files in good form, every value to put in listed, and no secret in any of them."""

import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "infra" / "clusters"
FILES = [path for name in ("spark", "kubernetes") for path in sorted((FOLDER / name).iterdir())]
PROPERTIES = [path for path in FILES if path.suffix == ".conf"]
MANIFESTS = [path for path in FILES if path.suffix == ".yaml"]
_PLACE = re.compile(r"<[A-Z_]+>")


def settings_of(path: Path) -> str:
    return "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))


def properties_of(path: Path) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in settings_of(path).splitlines() if line.strip())  # type: ignore[misc]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_head_lists_every_value_to_put_in_and_says_what_was_run(path: Path) -> None:
    head = "\n".join(line for line in path.read_text().split("\n\n")[0].splitlines() if line.startswith("#"))
    listed = set(re.findall(r"^# (<[A-Z_]+>) +\S", head, re.MULTILINE))
    used = set(_PLACE.findall(path.read_text())) if path.name == "kubernetes.conf" else set(_PLACE.findall(settings_of(path)))
    assert listed == used
    assert "by the project" in head
    assert path.name in (FOLDER / "README.md").read_text() or path.parent.name == "kubernetes"


@pytest.mark.parametrize("path", PROPERTIES, ids=lambda path: path.name)
def test_properties_are_sparks_and_hold_no_secret(path: Path) -> None:
    lines = [line for line in settings_of(path).splitlines() if line.strip()]
    properties = properties_of(path)
    assert len(properties) == len(lines), "a property is given twice"
    assert all(name.startswith("spark.") for name in properties)
    assert not [name for name in properties if re.search(r"secret|password|(access|account)\.key", name)]


def test_no_file_sets_what_the_jobs_set_themselves() -> None:
    session = (FOLDER.parents[1] / "jobs" / "spark.py").read_text()
    ours = set(re.findall(r'"(spark\.[\w.]+)"', session)) - {"spark.executor.memory", "spark.executor.cores"}
    for path in PROPERTIES:
        assert not ours & properties_of(path).keys(), path.name


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_complete_yaml(path: Path) -> None:
    (manifest,) = yaml.safe_load_all(path.read_text())
    assert manifest["apiVersion"] and manifest["kind"]


def test_the_training_job_never_retries_bad_data_and_calls_a_job_that_is_there() -> None:
    from jobs.errors import EXIT_BAD_DATA
    from jobs.settings import PipelineSettings

    job = yaml.safe_load((FOLDER / "kubernetes" / "training-job.yaml").read_text())["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    refused = [rule for rule in job["podFailurePolicy"]["rules"] if rule["action"] == "FailJob"]
    assert refused[0]["onExitCodes"]["values"] == [EXIT_BAD_DATA]
    assert refused[0]["onExitCodes"]["containerName"] == container["name"]
    assert container["command"][1:4] == ["-m", "jobs.train", "challenger"]
    flags = {part.removeprefix("--").split("=")[0] for part in container["command"] if part.startswith("--")}
    assert flags - {"settings"} <= PipelineSettings().flat().keys()
    mounts, volumes = ({part["name"] for part in parts} for parts in (container["volumeMounts"], pod["volumes"]))
    assert mounts == volumes
