"""The images: who they run as, what gets into them, and that their versions are the ones the tests ran with."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.infra.deployment import INFRA, ROOT, pins

IMAGES = INFRA / "images"
DOCKERFILES = sorted(IMAGES.glob("*.Dockerfile"))
Stage = list[tuple[str, str]]


def stages(path: Path) -> list[Stage]:
    """Instructions of a Dockerfile, by stage; a stage begins with its FROM."""
    text = re.sub(r"\\\n", " ", "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#")))
    instructions = [tuple(line.split(maxsplit=1)) for line in text.splitlines() if re.match(r"[A-Z]+ ", line)]
    starts = [number for number, (name, _) in enumerate(instructions) if name == "FROM"]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]  # type: ignore[misc]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_image_runs_as_nobody_in_particular_and_starts_by_exec(path: Path) -> None:
    last = dict(stages(path)[-1])
    user, group = last["USER"].split(":")
    assert int(user) > 0 and group == "0"
    assert "HEALTHCHECK" in last
    assert last["ENTRYPOINT"].startswith("[") and last["CMD"].startswith("[")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_base_is_an_exact_version(path: Path) -> None:
    given = dict(re.findall(r"^ARG (\w+)=(\S+)$", path.read_text(), re.MULTILINE))
    names = {re.split(r" AS ", dict(stage)["FROM"])[-1] for stage in stages(path)}
    for stage in stages(path):
        base = dict(stage)["FROM"].split()[0]
        base = given.get(base.strip("${}"), base)
        assert base in names or re.fullmatch(r"python:3\.11\.\d+-slim-bookworm", base), base


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_no_instruction_holds_or_asks_for_a_secret(path: Path) -> None:
    for stage in stages(path):
        for name, rest in stage:
            if name in ("ARG", "ENV"):
                assert not re.search(r"password|secret|token|_key|credential", rest, re.IGNORECASE), rest


def let_in(source: str) -> bool:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    return any(fnmatch(source, rule[1:]) for rule in rules if rule.startswith("!"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_is_let_into_the_build(path: Path) -> None:
    copies = [rest.split() for stage in stages(path) for name, rest in stage if name == "COPY" and "--from" not in rest]
    assert copies
    for source in (source for copy in copies for source in copy[:-1]):
        assert (ROOT / source).exists() and let_in(source), source


@pytest.mark.parametrize("name", [".venv", "var", "infra/compose/secrets", "infra/compose/.env", ".git", "tests"])
def test_nothing_of_this_machine_gets_into_an_image(name: str) -> None:
    assert not let_in(name)


def test_extra_packages_are_pinned_and_never_another_version_of_what_is_tested() -> None:
    extra = pins("infra/images/extra.txt")
    asked = {line.split()[0] for line in (IMAGES / "extra.in").read_text().splitlines() if line and line[0] != "#"}
    assert asked <= extra.keys()
    assert {name: version for name, version in extra.items() if pins().get(name, version) != version} == {}


def test_airflows_image_asks_for_nothing_that_is_not_pinned() -> None:
    lines = [line for line in (IMAGES / "airflow.in").read_text().splitlines() if line and not line.startswith("#")]
    assert set(lines) <= pins().keys() | pins("infra/images/extra.txt").keys()
    assert "apache-airflow-providers-apache-spark" in pins()


def test_the_jobs_image_leaves_out_development_and_nothing_else() -> None:
    (command,) = re.findall(r"RUN sed '([^']+)' requirements\.in", (IMAGES / "jobs.Dockerfile").read_text())
    kept = subprocess.run(["sed", command, ROOT / "requirements.in"], capture_output=True, text=True, check=True).stdout
    names = {re.split(r"[=<> \[]", line)[0] for line in kept.splitlines() if line and not line.startswith("#")}
    assert {"apache-airflow", "pyspark", "torch", "mlflow", "psutil", "jinja2"} <= names
    assert not names & {"pytest", "ruff", "mypy", "playwright"}


@pytest.mark.parametrize("path", [*DOCKERFILES, INFRA / "compose" / "README.md"], ids=lambda path: path.name)
def test_versions_named_are_those_that_are_pinned(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"spark-hadoop-cloud_2\.13:([\d.]+\d)", text)) <= {pins()["pyspark"]}
    assert set(re.findall(r"openjdk-(\d+)", text)) <= {"17"}
