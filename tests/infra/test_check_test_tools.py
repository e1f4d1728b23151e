"""`infra/check_test_tools.sh` on machines of every kind, made of small stand-ins on PATH (the script itself runs for real)."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "infra" / "check_test_tools.sh"


class Machine:
    """A folder that is the whole PATH; what is installed lies beside it."""

    def __init__(self, folder: Path) -> None:
        self.path, self.browser, self.servers = folder / "bin", folder / "chromium", folder / "postgresql"
        self.path.mkdir()
        for tool in ("bash", "env", "mkdir", "touch", "chmod"):
            (self.path / tool).symlink_to(str(shutil.which(tool)))
        self.add(self.path / "id", "echo 0")  # root, whoever runs the test

    def add(self, path: Path, body: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    def add_apt(self, *installs: Path) -> None:
        """A package manager that says what it was asked for and makes these files."""
        made = "\n".join(f"  mkdir -p {path.parent}; touch {path}; chmod +x {path}" for path in installs)
        self.add(self.path / "apt-get", f'if [[ $1 == install ]]; then echo "$@" >&2\n{made}\nfi')

    def check(self) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.path), "CHROMIUM": str(self.browser), "POSTGRES_FOLDER": str(self.servers)}
        return subprocess.run(["/bin/bash", str(SCRIPT)], env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_there_is_taken_without_a_word(machine: Machine) -> None:
    machine.add(machine.browser)
    machine.add(machine.servers / "15" / "bin" / "initdb")
    done = machine.check()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.add(machine.servers / "15" / "bin" / "initdb")
    machine.add_apt(machine.browser)
    done = machine.check()
    assert done.returncode == 0
    assert done.stderr.split() == ["install", "-y", "-qq", "--no-install-recommends", "chromium"]


def test_an_installation_without_effect_fails_and_says_what_to_type(machine: Machine) -> None:
    machine.add_apt()
    done = machine.check()
    assert done.returncode == 1
    assert "sudo apt-get install -y chromium postgresql" in done.stderr


def test_a_machine_without_a_package_manager_says_what_to_type(machine: Machine) -> None:
    done = machine.check()
    assert done.returncode == 1
    assert "The tests need chromium postgresql." in done.stderr
