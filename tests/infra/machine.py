"""A machine made of small stand-ins on PATH; the scripts of `infra/` really run on it."""

import shutil
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "infra"


class Machine:
    """A folder that is the whole PATH, with the tools that a script needs and nothing else.

    Args:
        path: the folder.
        tools: tools of the real machine that it has.
    """

    def __init__(self, path: Path, tools: tuple[str, ...]) -> None:
        self.path = path
        path.mkdir()
        for tool in tools:
            found = shutil.which(tool)
            assert found
            (path / tool).symlink_to(found)

    def add(self, name: str | Path, body: str = "") -> None:
        """Add a program on PATH, or at a path of its own; it replaces one that is there."""
        program = self.path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.unlink(missing_ok=True)
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of `infra/` there; returns its output and status."""
        environment = {"PATH": str(self.path)} | variables
        return subprocess.run(
            ["/bin/bash", str(SCRIPTS / script)], env=environment, capture_output=True, text=True, check=False
        )
