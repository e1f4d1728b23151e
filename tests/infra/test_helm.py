"""The chart's values: images and names that fit the rest, nothing secret in them, and probes that our images can answer."""

import importlib.util
import json
import re
from typing import Any

import pytest
import yaml

from tests.infra.deployment import INFRA, pins, unknown, unknown_options

FOLDER = INFRA / "helm"
TEXT = (FOLDER / "values.yaml").read_text()
VALUES: dict[str, Any] = yaml.safe_load(TEXT)
ENVIRONMENT = {part["name"]: part for part in yaml.safe_load(VALUES["extraEnv"])}
MANIFESTS = [
    manifest
    for path in sorted((INFRA / "clusters" / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text())
]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [m for m in MANIFESTS if m["kind"] == kind and m["metadata"].get("name") == name]
    return found


def test_the_head_lists_every_value_to_put_in() -> None:
    head = TEXT.split("airflowVersion", 1)[0]
    listed = set(re.findall(r"^# (<[A-Z_]+>) +\S", head, re.MULTILINE))
    assert listed == set(re.findall(r"<[A-Z_]+>", TEXT))
    assert "Not run by the project" in head


def test_the_version_is_the_one_the_images_hold() -> None:
    assert VALUES["airflowVersion"] == pins()["apache-airflow"]
    assert VALUES["executor"] == "KubernetesExecutor"
    assert "apache-airflow-providers-cncf-kubernetes" in pins("infra/images/extra.txt")
    assert "statsd" in pins("infra/images/extra.txt") or not VALUES["statsd"]["enabled"]


def test_steps_run_in_the_image_that_has_what_they_need() -> None:
    template, executor = VALUES["images"]["pod_template"], VALUES["config"]["kubernetes_executor"]
    assert executor["worker_container_repository"] == template["repository"] != VALUES["defaultAirflowRepository"]
    assert executor["worker_container_tag"] == template["tag"]


def test_secrets_are_names_of_secrets_that_the_readme_lists() -> None:
    listed = set(re.findall(r"^\| `(esans-[\w-]+)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE))
    named_here = set(re.findall(r"(?:[sS]ecretName|secretRef: \{name|[a-z]SecretName): (esans-[\w-]+)", TEXT))
    manifests = set(
        re.findall(r'"(?:secretName|name)": "(esans-[\w-]+)", "key"|"secretName": "(esans-[\w-]+)"', json.dumps(MANIFESTS))
    )
    assert named_here | {name for pair in manifests for name in pair if name} == listed
    assert not re.search(r"^\s*(password|pass|fernetKey|jwtSecret|apiSecretKey|connection):", TEXT, re.MULTILINE)
    assert not VALUES["createUserJob"]["enabled"], "the chart's own user has the password admin"
    for part in ENVIRONMENT.values():
        assert not re.search(r"PASSWORD|TOKEN", part["name"])


def test_every_name_is_read_by_somebody() -> None:
    assert not unknown(set(ENVIRONMENT))
    options = {f"AIRFLOW__{s}__{n}".upper() for s, section in VALUES["config"].items() for n in section}
    options -= {name for name in options if name.startswith("AIRFLOW__KUBERNETES_EXECUTOR__")}  # the provider's, not Airflow's
    assert not unknown_options(options)


def test_what_pods_mount_is_made_beforehand() -> None:
    claims = [
        v["persistentVolumeClaim"]["claimName"] for v in VALUES["workers"]["extraVolumes"] if "persistentVolumeClaim" in v
    ]
    for claim in [*claims, VALUES["logs"]["persistence"]["existingClaim"]]:
        assert named("PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteMany"]
    mounts = {mount["mountPath"] for mount in VALUES["workers"]["extraVolumeMounts"]}
    assert ENVIRONMENT["ESANS_HOME"]["value"] in mounts
    assert ENVIRONMENT["ESANS_GATE_KEY_FILE"]["value"].rsplit("/", 1)[0] in mounts
    connection = json.loads(ENVIRONMENT["AIRFLOW_CONN_SPARK_DEFAULT"]["value"])
    assert connection["extra"]["properties-file"] == "/etc/esans/spark/kubernetes.conf"
    assert "/etc/esans/spark" in mounts
    properties = (INFRA / "clusters" / "spark" / "kubernetes.conf").read_text()
    assert "/etc/esans/spark/executor-pod.yaml" in properties


def test_steps_may_start_executors_and_reach_mlflow() -> None:
    (subject,) = named("RoleBinding", "esans-spark")["subjects"]
    assert subject["name"] == VALUES["workers"]["serviceAccount"]["name"]
    service = named("Service", "esans-mlflow")
    assert ENVIRONMENT["ESANS_REGISTRY__TRACKING_URI"]["value"] == f"http://esans-mlflow:{service['spec']['ports'][0]['port']}"


@pytest.mark.parametrize("component", ["scheduler", "dagProcessor", "triggerer"])
def test_probes_and_sidecars_need_no_script_of_the_official_image(component: str) -> None:
    part = VALUES[component]
    assert not part["logGroomerSidecar"]["enabled"]
    for probe in ("livenessProbe", *(["startupProbe"] if component == "scheduler" else [])):
        assert "exec airflow jobs check" in part[probe]["command"][-1]


def test_the_pool_of_the_trainings_is_the_same_everywhere() -> None:
    settings = (FOLDER / "airflow_local_settings.py").read_text()
    assert 'POOL = "gpu"' in settings
    made = VALUES["migrateDatabaseJob"]["args"][-1]
    slots = {name: int(count) for name, count in re.findall(r"airflow pools set (\w+) (\d+) ", made)}
    assert slots.keys() == {"gpu", "by_hand", "default_pool"} and slots["gpu"] == 1
    assert VALUES["config"]["core"]["parallelism"] == sum(slots.values())  # so that steps never take the slots by hand
    assert "{{" not in settings, "the chart would take it for a template"
    assert set(re.findall(r'environ\.get\("(\w+)"', settings)) <= ENVIRONMENT.keys()


@pytest.mark.skipif(
    importlib.util.find_spec("kubernetes") is None, reason="only the images have the KubernetesExecutor's client"
)
def test_a_training_gets_a_gpu_and_nothing_else_does() -> None:
    from airflow.providers.standard.operators.empty import EmptyOperator

    from infra.helm.airflow_local_settings import task_policy

    training, other = EmptyOperator(task_id="train", pool="gpu"), EmptyOperator(task_id="other")
    for task in (training, other):
        task_policy(task)
    assert not other.executor_config
    spec = training.executor_config["pod_override"].spec
    assert spec.containers[0].name == "base"
    assert spec.containers[0].resources.limits["nvidia.com/gpu"] == "1"
    assert spec.node_selector and spec.tolerations
