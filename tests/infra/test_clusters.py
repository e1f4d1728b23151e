"""The configuration for other clusters: files in good form, every value to put in listed, and no secret in any of them."""

import re
from pathlib import Path
from typing import Any

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
    session = (FOLDER.parents[1] / "jobs" / "base" / "spark.py").read_text()
    ours = set(re.findall(r'"(spark\.[\w.]+)"', session)) - {"spark.executor.memory", "spark.executor.cores"}
    for path in PROPERTIES:
        assert not ours & properties_of(path).keys(), path.name


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_complete_yaml(path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        assert manifest["apiVersion"] and manifest["kind"]
        assert manifest["kind"] == "Pod" or manifest["metadata"]["namespace"] == "<NAMESPACE>"


def pods_of(path: Path) -> list[dict[str, Any]]:
    specs = []
    for manifest in yaml.safe_load_all(path.read_text()):
        spec = manifest.get("spec", {})
        specs += [spec] if manifest["kind"] == "Pod" else [spec["template"]["spec"]] if "template" in spec else []
    return specs


def test_every_pod_runs_as_the_images_user_without_privileges() -> None:
    pods = [pod for path in MANIFESTS for pod in pods_of(path)]
    assert len(pods) == 4
    for pod in pods:
        context = pod["securityContext"]
        assert (context["runAsNonRoot"], context["runAsUser"], context["runAsGroup"]) == (True, 50000, 0)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_nothing_is_open_but_what_a_policy_opens_to_pods_that_are_there() -> None:
    policies = list(yaml.safe_load_all((FOLDER / "kubernetes" / "network.yaml").read_text()))
    closed = [policy for policy in policies if policy["spec"]["podSelector"] == {}]
    assert [policy["spec"] for policy in closed] == [{"podSelector": {}, "policyTypes": ["Ingress"]}]
    labels = {"esans-mlflow", "esans-executor", "esans-training"}
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], "an empty list would be everybody"
        asked = set(re.findall(r"'app': '([\w-]+)'", str(policy["spec"])))
        assert asked <= labels
    text = "".join(path.read_text() for path in MANIFESTS if path.name != "network.yaml")
    assert all(re.search(rf"app: {label}\b", text) for label in labels)


def test_the_executors_entry_is_in_the_image() -> None:
    pod = yaml.safe_load((FOLDER / "kubernetes" / "executor-pod.yaml").read_text())
    entry = pod["spec"]["containers"][0]["command"][-1]
    assert f"COPY infra/images/spark-executor.sh {entry}" in (FOLDER.parent / "images" / "jobs.Dockerfile").read_text()


def test_the_training_job_never_retries_bad_data_and_calls_a_job_that_is_there() -> None:
    from jobs.base.errors import EXIT_BAD_DATA
    from jobs.base.settings import PipelineSettings

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
