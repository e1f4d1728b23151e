"""The compose files: what is open, who runs, where secrets come from, and that every name in them means something."""

import configparser
import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.compose import prepare
from infra.local.environment import stack_environment
from tests.infra.deployment import INFRA, pins, unknown, unknown_options

FOLDER = INFRA / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OVERRIDES = [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("compose.*.yaml"))]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES.keys())


def runs_once(service: dict[str, Any]) -> bool:
    return service["restart"] == "on-failure"


def names_of(service: dict[str, Any], kind: str) -> dict[str, str]:
    """Secrets or configs of a service: name to where they are mounted."""
    parts = [part if isinstance(part, dict) else {"source": part} for part in service.get(kind, [])]
    return {part["source"]: part.get("target", f"/run/secrets/{part['source']}") for part in parts}


def test_only_loopback_is_published() -> None:
    published = [
        port
        for service in [*SERVICES.values(), *(s for o in OVERRIDES for s in o["services"].values())]
        for port in service.get("ports", [])
    ]
    assert len(published) == 3
    assert all(isinstance(port, str) and port.startswith("127.0.0.1:") for port in published)
    assert not [name for name, service in SERVICES.items() if service.get("network_mode") or service.get("privileged")]


@each_service
def test_a_service_runs_unprivileged_within_limits(service: dict[str, Any]) -> None:
    assert service["user"].startswith("${RUN_AS:?")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"cpus", "memory", "pids"} <= service["deploy"]["resources"]["limits"].keys()
    assert not re.search(r":latest\b|^[^:]+$", service["image"])


@each_service
def test_a_service_is_looked_after(service: dict[str, Any]) -> None:
    if runs_once(service):
        waiting = [
            s
            for s in SERVICES.values()
            for needed in s.get("depends_on", {}).items()
            if SERVICES[needed[0]] is service and needed[1]["condition"] == "service_completed_successfully"
        ]
        assert waiting
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD" and "start_period" in service["healthcheck"]


@each_service
def test_a_service_waits_for_what_it_needs_and_can_reach_it(service: dict[str, Any]) -> None:
    for name, needed in service.get("depends_on", {}).items():
        wanted = "service_completed_successfully" if runs_once(SERVICES[name]) else "service_healthy"
        assert needed["condition"] == wanted, name
        if not runs_once(SERVICES[name]):
            assert set(service["networks"]) & set(SERVICES[name]["networks"]), name


def test_databases_and_the_store_have_no_way_out() -> None:
    for name in ("postgres", "store", "spark-master"):
        assert all((COMPOSE["networks"][network] or {}).get("internal") for network in SERVICES[name]["networks"]), name


@each_service
def test_every_secret_a_service_speaks_of_is_mounted_there_and_no_other(service: dict[str, Any]) -> None:
    mounted = names_of(service, "secrets")
    said = json.dumps([service.get("environment", {}), service.get("command", ""), service.get("entrypoint", "")])
    if "databases" in names_of(service, "configs"):
        said += (FOLDER / "databases.sql").read_text()
    if "mlflow_auth" in mounted:
        said += prepare.contents()["mlflow_auth"]
    spoken = set(re.findall(r"/run/secrets/[\w.]+", said))
    by_itself = {"/home/esans/.mlflow/credentials"}  # where MLflow's client looks
    assert spoken == set(mounted.values()) - by_itself


@each_service
def test_no_secret_is_a_value(service: dict[str, Any]) -> None:
    for name, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL|SQL_ALCHEMY_CONN", name):
            assert re.match(r"(cat )?/run/secrets/|airflow\.secrets\.|\{\"connections_file_path\"|/opt/airflow/", str(value)), (
                name
            )
    assert not re.search(r"//\w+:[^@/$]+@", json.dumps(service)), "a URI with a password"


def test_secrets_are_files_that_prepare_makes() -> None:
    declared = COMPOSE["secrets"]
    assert declared == {name: {"file": f"secrets/{name}"} for name in prepare.contents()}
    assert {name for service in SERVICES.values() for name in names_of(service, "secrets")} == declared.keys()
    assert {name for service in SERVICES.values() for name in names_of(service, "configs")} == COMPOSE["configs"].keys()


@each_service
def test_every_name_in_the_environment_is_read_by_somebody(service: dict[str, Any]) -> None:
    names = set(service.get("environment", {}))
    assert not unknown(names)
    assert not unknown_options({name for name in names if name.startswith("AIRFLOW__")})


def test_overrides_change_services_that_are_there_in_names_that_mean_something() -> None:
    for override in OVERRIDES:
        assert override["services"].keys() <= SERVICES.keys()
        for service in override["services"].values():
            assert not unknown(set(service.get("environment", {})))


def test_steps_are_told_what_the_local_stack_tells_them(tmp_path: Path) -> None:
    local = stack_environment(tmp_path, 8080, inherited={}).keys()
    here = SERVICES["scheduler"]["environment"].keys()
    of_the_machine = {"ESANS_LOCAL_STACK", "AIRFLOW_CONN_SPARK_DEFAULT"}
    assert {name for name in local if name.startswith("ESANS_")} - of_the_machine <= here


def test_spark_is_where_the_connection_says_and_executors_find_the_driver() -> None:
    scheduler = SERVICES["scheduler"]
    connection = json.loads(scheduler["environment"]["AIRFLOW_CONN_SPARK_DEFAULT"])
    master = SERVICES["spark-master"]["command"]
    assert connection["host"] == f"spark://{master[master.index('--host') + 1]}"
    assert str(connection["port"]) == master[master.index("--port") + 1]
    assert f"{connection['host']}:{connection['port']}" in SERVICES["spark-worker"]["command"]
    assert scheduler["environment"]["ESANS_SPARK__DRIVER_HOST"] in scheduler["networks"]["compute"]["aliases"]
    assert "compute" in SERVICES["spark-worker"]["networks"]
    home = f"home:{scheduler['environment']['ESANS_HOME']}"
    assert home in scheduler["volumes"] and home in SERVICES["spark-worker"]["volumes"]


def test_the_pool_of_the_trainings_is_made_with_the_database() -> None:
    made = SERVICES["migrate"]["command"][-1]
    assert "airflow db migrate && airflow pools set gpu 1 " in made
    assert "airflow pools set by_hand 2 " in made and "airflow pools set default_pool ${STEPS:-2} " in made


def test_databases_are_those_that_are_connected_to() -> None:
    made = set(re.findall(r"CREATE DATABASE (\w+)", (FOLDER / "databases.sql").read_text()))
    said = json.dumps(COMPOSE) + "\n".join(prepare.contents().values())
    assert set(re.findall(r"@postgres/(\w+)", said)) == made


def test_prepare_makes_private_files_once_and_says_none_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare.main(tmp_path) == 0
    secrets = tmp_path / "secrets"
    before = {path.name: path.read_bytes() for path in secrets.iterdir()}
    assert before.keys() == COMPOSE["secrets"].keys() and all(before.values())
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in secrets.iterdir()} == {0o600}
    owner, _ = (tmp_path / ".env").read_text().removeprefix("RUN_AS=").split(":")
    assert int(owner) > 0 and {path.stat().st_uid for path in secrets.iterdir()} == {int(owner)}
    assert f"esans:x:{owner}:0:" in (tmp_path / "passwd").read_text()
    (tmp_path / ".env").write_text("RUN_AS=0:0\n")  # as rootless Docker needs it
    assert prepare.main(tmp_path) == 0
    assert (tmp_path / ".env").read_text() == "RUN_AS=0:0\n"
    assert {path.name: path.read_bytes() for path in secrets.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"secrets", "store", "passwd", ".env"}
    said = capsys.readouterr().out
    assert not [name for name, text in before.items() if len(text) > 10 and text.decode().strip() in said]


def test_a_prepare_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "contents", lambda: {"good": "x", "no/such/folder": "y"})
    with pytest.raises(OSError):
        prepare.main(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_made_belongs_together_and_is_drawn_anew_each_time() -> None:
    made, other = prepare.contents(), prepare.contents()
    assert made["airflow_database_password"] in made["airflow_database_uri"]
    assert made["mlflow_database_pgpass"].endswith(f":mlflow:{made['mlflow_database_password']}\n")
    server, user = configparser.ConfigParser(), configparser.ConfigParser()
    server.read_string(made["mlflow_auth"])
    user.read_string(made["mlflow_credentials"])
    assert server["mlflow"]["admin_password"] == user["mlflow"]["mlflow_tracking_password"]
    identity = json.loads(made["store_identities"])["identities"][0]["credentials"][0]
    assert f"aws_secret_access_key = {identity['secretKey']}" in made["store_credentials"]
    assert "spark.authenticate true" in made["spark_properties"]
    assert not {name for name in made if made[name] == other[name]} - {"airflow_connections"}


def test_git_and_the_build_never_see_what_prepare_makes() -> None:
    ignored = (FOLDER / ".gitignore").read_text().split()
    assert {"/secrets/", "/store/", "/passwd", "/.env"} <= set(ignored)
    assert "!infra/compose" not in (INFRA.parent / ".dockerignore").read_text()


def test_clients_of_the_store_are_in_the_image() -> None:
    assert {"boto3", "s3fs"} <= pins("infra/images/extra.txt").keys()
