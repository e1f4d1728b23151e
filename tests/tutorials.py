"""The blocks of a tutorial, and how a test follows them.

A line `<!-- tested: KIND -->` before a fenced block says what a test does with it:

- `here`: it is executed as it stands;
- `check`: a command `make check ...`. It is executed too, by a test that may start Spark;
- `run`: commands `make run ...`. They are checked up to the point where Airflow would start: make knows the target, and the
  settings, the date and the data are accepted. The end-to-end test does a run itself;
- `up`: commands of the stack that stays up. They are checked in the same way;
- `mapping`: a `data.yaml`. Tests write tables of its shape beside it and check them, and ingest those of `coming-from.md`.

A block without such a line is not tested, and a test counts those.
"""

import datetime as dt
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.local.processes import await_answer, free_port

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
_BLOCK = re.compile(r"(?:<!-- tested: (?P<kind>\w+) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: what a test does with it, its language, and its text."""

    kind: str | None
    language: str
    text: str


def blocks(page: str) -> list[Block]:
    """All blocks of a tutorial, in order."""
    return [Block(match["kind"], match["language"], match["text"]) for match in _BLOCK.finditer((TUTORIALS / page).read_text())]


def follow(page: str, kinds: set[str], folder: Path) -> list[str]:
    """Execute the blocks of these kinds in order, Python in one namespace; returns the output of each shell block.

    Args:
        page: name of the tutorial.
        kinds: kinds of the blocks to execute.
        folder: used in place of the repository's folder; it must be the current folder (`monkeypatch.chdir`).
    """
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix)
    said: list[str] = []
    names: dict[str, Any] = {}
    for block in blocks(page):
        if block.kind not in kinds:
            continue
        if block.language == "python":
            exec(compile(block.text, page, "exec"), names)
        else:
            said.append(shell(block.text, folder))
    return said


def shell(text: str, folder: Path) -> str:
    """Execute shell commands that import from the repository; returns their output.

    Raises:
        AssertionError: a command failed.
    """
    done = subprocess.run(
        ["bash", "-euc", text],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def made_by(command: str, module: str = "infra.local.") -> list[list[str]]:
    """The Python commands of some modules that a `make ...` would execute, as words; none is executed.

    Raises:
        AssertionError: make does not know the target.
    """
    done = subprocess.run(
        ["make", "--dry-run", *shlex.split(command)[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if f" -m {module}" in line]
    assert lines, f"{command} starts nothing of {module}: {done.stdout}"
    return [shlex.split(line) for line in lines]


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """The port of a server that `make serve` has started in a folder that looks like the repository's."""
    port = free_port()
    (command,) = made_by(f"make serve SERVE_PORT={port}", "esans_core.serving")
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        await_answer(process, f"http://127.0.0.1:{port}/ready")
        yield port
    finally:
        process.terminate()
        process.wait(30)


def today() -> dt.date:
    """Today's date, as `make run` sees it."""
    return dt.datetime.now(dt.UTC).date()
