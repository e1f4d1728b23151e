"""`infra/check_java.sh` on machines of every kind, made of small stand-ins on PATH (the script itself runs for real)."""

import subprocess
from pathlib import Path

import pytest

from tests.infra.machine import Machine

TOOLS = ("bash", "env", "sed", "head", "id", "true")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "bin", TOOLS)


def add_java(machine: Machine, version: str, folder: str | Path = "") -> None:
    machine.add(Path(folder) / "java", f"echo 'openjdk version \"{version}\" 2024-01-16' >&2")


def check(machine: Machine, **variables: str) -> subprocess.CompletedProcess[str]:
    return machine.run("check_java.sh", **variables)


@pytest.mark.parametrize(("version", "major"), [("17.0.15", "17"), ("21", "21"), ("25-ea", "25")])
def test_new_enough_java_is_taken(machine: Machine, version: str, major: str) -> None:
    add_java(machine, version)
    done = check(machine)
    assert done.returncode == 0
    assert done.stdout.startswith(f"Java {major} at ")


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.22", "16.0.1"])
def test_old_java_without_a_package_manager_says_what_is_wrong(machine: Machine, version: str) -> None:
    add_java(machine, version)
    done = check(machine)
    assert done.returncode == 1
    assert "needs Java 17 or newer" in done.stderr and "is Java" in done.stderr


def test_no_java_and_no_rights_says_what_to_type(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    machine.add("apt-get", "exit 9")
    machine.add("sudo", "exit 1")
    done = check(machine)
    assert done.returncode == 1
    assert "sudo apt-get update && sudo apt-get install -y openjdk-17-jre-headless" in done.stderr


@pytest.mark.parametrize("user", ["0", "1000"])
def test_java_is_installed_by_root_or_with_passwordless_sudo(machine: Machine, user: str) -> None:
    machine.add("id", f"echo {user}")
    machine.add("sudo", 'shift; exec "$@"')  # drops -n
    java = machine.path / "java"
    answer = "echo 'openjdk version \\\"17.0.1\\\"' >&2"
    machine.add(
        "apt-get",
        f'echo "$@" >> "{machine.path}/calls"\n'
        f'if [[ $1 == install ]]; then printf "#!/bin/bash\\n%s\\n" "{answer}" > "{java}"; /bin/chmod +x "{java}"; fi',
    )
    done = check(machine)
    assert done.returncode == 0, done.stderr
    assert "Java 17 at" in done.stdout
    calls = (machine.path / "calls").read_text().splitlines()
    assert calls[0].startswith("update") and "openjdk-17-jre-headless" in calls[1]


def test_failed_installation_is_an_error(machine: Machine) -> None:
    machine.add("id", "echo 0")
    machine.add("apt-get", "exit 100")
    done = check(machine)
    assert done.returncode == 1
    assert "failed" in done.stderr


def test_java_home_goes_before_path(machine: Machine, tmp_path: Path) -> None:
    add_java(machine, "21")
    add_java(machine, "11.0.2", tmp_path / "old" / "bin")
    done = check(machine, JAVA_HOME=str(tmp_path / "old"))
    assert done.returncode == 1
    assert "JAVA_HOME points at Java 11" in done.stderr and "unset JAVA_HOME" in done.stderr
    add_java(machine, "17", tmp_path / "new" / "bin")
    assert check(machine, JAVA_HOME=str(tmp_path / "new")).returncode == 0
    gone = check(machine, JAVA_HOME=str(tmp_path / "gone"))
    assert gone.returncode == 1
    assert "there is no bin/java in it" in gone.stderr
