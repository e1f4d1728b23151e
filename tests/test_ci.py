"""`.ci/run` with a stand-in for `make`: the environment that the commands get, and the result that their statuses give."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_ci(tmp_path: Path, lint: int = 0, test: int = 0) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    """Run it with a `make` that notes its environment and its files; returns its output, and the notes of each call."""
    tools, notes = tmp_path / "tools", tmp_path / "notes"
    tools.mkdir()
    notes.mkdir()
    make = tools / "make"
    make.write_text(
        "#!/bin/bash\n"
        f'number=$(ls "{notes}" | wc -l)\n'
        f'{{ env -0; printf "DOOR=%s\\0FILES=%s\\0" "$*" "$(ls -A "$HOME" . | tr "\\n" " ")"; }} > "{notes}/$number"\n'
        f"case $1 in lint) exit {lint} ;; test) echo 3 passed; exit {test} ;; esac\n"
    )
    make.chmod(0o755)
    caller = {
        "ESANS_HOME": "/of/the/caller",
        "AIRFLOW_HOME": "/a",
        "PYTHONPATH": "/p",
        "VIRTUAL_ENV": "/v",
        "XDG_CACHE_HOME": "/x",
    }
    index = {"PIP_INDEX_URL": "https://index.example.org/simple", "HTTPS_PROXY": "http://proxy.example.org:3128"}
    environment = os.environ | caller | index | {"PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    calls = [
        dict(line.split("=", 1) for line in (notes / str(number)).read_text().split("\0") if "=" in line)
        for number in range(len(list(notes.iterdir())))
    ]
    return done, calls


def test_the_doors_find_a_clone_and_a_home_in_which_nothing_was_left_by_hand(tmp_path: Path) -> None:
    done, calls = run_ci(tmp_path)
    assert done.returncode == 0, done.stderr
    assert [call["DOOR"] for call in calls] == ["setup", "lint", "test"]
    for call in calls:
        assert call["HOME"].startswith(str(tmp_path)) and call["PWD"].startswith(str(tmp_path))
        files = call["FILES"].split()
        assert "Makefile" in files and not {".venv", "var", ".cache"} & set(files)
        assert not [name for name in call if name.startswith(("ESANS_", "AIRFLOW", "PYTHON", "VIRTUAL_ENV", "XDG_"))]
        assert call["PIP_INDEX_URL"] == "https://index.example.org/simple" and call["PIP_NO_CACHE_DIR"] == "1"
        assert call["HTTPS_PROXY"] == "http://proxy.example.org:3128"
    assert not list(tmp_path.glob("esans-ci-*")), "nothing stays behind"


@pytest.mark.parametrize(("lint", "test"), [(2, 0), (0, 2)])
def test_tests_run_whatever_lint_says_and_their_result_is_the_last_word(tmp_path: Path, lint: int, test: int) -> None:
    done, calls = run_ci(tmp_path, lint, test)
    assert done.returncode == 1
    assert calls[-1]["DOOR"] == "test" and done.stdout.splitlines()[-1] == "3 passed"
