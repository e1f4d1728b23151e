"""`infra/check_test_tools.sh` on machines of every kind, made of small stand-ins on PATH (the script itself runs for real)."""

import subprocess
from pathlib import Path

import pytest

from tests.infra.machine import Machine

TOOLS = ("bash", "env", "mkdir", "touch", "chmod")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "bin", TOOLS)
    machine.add("id", "echo 0")  # root, whoever runs the test
    return machine


def browser(machine: Machine) -> Path:
    return machine.path.parent / "chromium"


def servers(machine: Machine) -> Path:
    return machine.path.parent / "postgresql"


def add_apt(machine: Machine, *installs: Path) -> None:
    """A package manager that says what it was asked for and makes these files."""
    made = "\n".join(f"  mkdir -p {path.parent}; touch {path}; chmod +x {path}" for path in installs)
    machine.add("apt-get", f'if [[ $1 == install ]]; then echo "$@" >&2\n{made}\nfi')


def check(machine: Machine) -> subprocess.CompletedProcess[str]:
    return machine.run("check_test_tools.sh", CHROMIUM=str(browser(machine)), POSTGRES_FOLDER=str(servers(machine)))


def test_what_is_there_is_taken_without_a_word(machine: Machine) -> None:
    machine.add(browser(machine))
    machine.add(servers(machine) / "15" / "bin" / "initdb")
    done = check(machine)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.add(servers(machine) / "15" / "bin" / "initdb")
    add_apt(machine, browser(machine))
    done = check(machine)
    assert done.returncode == 0
    assert done.stderr.split() == ["install", "-y", "-qq", "--no-install-recommends", "chromium"]


def test_an_installation_without_effect_fails_and_says_what_to_type(machine: Machine) -> None:
    add_apt(machine)
    done = check(machine)
    assert done.returncode == 1
    assert "sudo apt-get install -y chromium postgresql" in done.stderr


def test_a_machine_without_a_package_manager_says_what_to_type(machine: Machine) -> None:
    done = check(machine)
    assert done.returncode == 1
    assert "The tests need chromium postgresql." in done.stderr
