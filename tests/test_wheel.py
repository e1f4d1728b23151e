"""The library, installed from its wheel with only torch and numpy: every name is there, and the README's example runs."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def _run(*command: object, cwd: Path) -> str:
    """What a command prints. It does not see where this process finds modules: a Spark session sets that for its workers."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _needed(*names: str) -> Iterator[Path]:
    """The entries that the distributions, and all that they need, have put directly into site-packages."""
    known, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name.lower() in known:
            continue
        known.add(name.lower())
        try:
            found = distribution(name)
        except PackageNotFoundError:  # not needed on this machine
            continue
        waiting += [
            need.name
            for need in map(Requirement, found.requires or ())
            if not need.marker or need.marker.evaluate({"extra": ""})
        ]
        folder = Path(str(found.locate_file("")))
        yield from {folder / file.parts[0] for file in found.files or () if file.parts[0] != ".."}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel in it; torch and numpy are links to the ones of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: building leaves files behind
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "esans_core", source / "esans_core", ignore=shutil.ignore_patterns("__pycache__"))
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", cwd=source)
    (wheel,) = (folder / "dist").glob("esans_core-*.whl")

    environment = folder / "environment"
    _run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=folder)
    python = environment / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", "-q", wheel, cwd=folder)
    (packages,) = (environment / "lib").glob("python*/site-packages")
    for path in _needed("torch", "numpy"):
        if not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)
    return python


def test_every_name_is_there_but_for_those_of_the_extra_serving(python: Path, tmp_path: Path) -> None:
    code = """
import sys, esans_core
absent = {}
for name in esans_core.__all__:
    try:
        getattr(esans_core, name)
    except ModuleNotFoundError as error:
        absent[name] = error.name
others = {"faiss", "pandas", "pyarrow", "pyspark", "airflow", "mlflow", "pydantic"} & set(sys.modules)
print(esans_core.__file__, absent, others, sep="|")
"""
    where, absent, others = _run(python, "-c", code, cwd=tmp_path).strip().split("|")
    assert Path(where).is_relative_to(python.parents[1])
    assert others == "set()"
    assert ast.literal_eval(absent) == dict.fromkeys(("Retriever", "ServingBundle", "write_bundle"), "pyarrow")


def test_the_version_is_that_of_the_changelog(python: Path, tmp_path: Path) -> None:
    version = _run(python, "-c", "from importlib.metadata import version; print(version('esans-core'))", cwd=tmp_path).strip()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"[{version}]" in changelog or f"This becomes version {version}." in changelog


def test_the_example_of_the_readme_runs(python: Path, tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    (tmp_path / "example.py").write_text(block)
    losses = [float(value) for value in re.findall(r"loss ([0-9.]+)", _run(python, "example.py", cwd=tmp_path))]
    assert losses and losses == sorted(losses, reverse=True)
