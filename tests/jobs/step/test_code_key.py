"""The code of a step: what belongs to it by the import graph, and which steps run again after an edit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.base.settings import PipelineSettings
from jobs.step.code_key import code_digest, code_files

ROOT = Path(__file__).resolve().parents[3]
STEPS = {  # the steps whose result may be kept, in the order of a run
    "ingest": "jobs/ingest.py",
    "text_features": "jobs/text_features.py",
    "behaviour": "jobs/behaviour_features.py",
    "fit_codebooks": "jobs/fit_codebooks.py",
    "assign": "jobs/assign_clusters.py",
    "training_set": "jobs/build_training_set.py",
    "gate": "jobs/gate.py",
    "train": "jobs/train.py",
    "candidates": "jobs/candidates.py",
}
# One module of each folder is edited; the columns are the steps above, x where the step runs again.
EDITS = """
                                  ingest text_features behaviour fit_codebooks assign training_set gate train candidates
jobs/report/charts.py               .          .           .           .         .         .        .     .       .
jobs/report/layout.py               .          .           .           .         .         .        .     .       .
jobs/pages/page.html                .          .           .           .         .         .        .     .       .
jobs/step/metrics_file.py           .          .           .           .         .         .        .     .       .
jobs/step/runtime.py                .          .           .           .         .         .        .     .       .
jobs/register.py                    .          .           .           .         .         .        .     .       .
jobs/registry/card.py               .          .           .           .         .         .        .     .       .
jobs/registry/versions.py           .          .           .           .         .         .        .     .       x
jobs/serving/index.py               .          .           .           .         .         .        .     .       x
jobs/shop/pictures.py               .          .           .           .         .         .        .     .       .
jobs/gates/raw.py                   .          .           .           .         .         .        x     .       .
jobs/features/encoders/text.py      .          x           .           .         .         .        .     .       .
jobs/source/splitting.py            x          .           .           .         .         .        .     .       .
jobs/source/tables.py               x          .           .           .         .         .        x     .       .
jobs/training/data.py               .          .           .           .         .         .        .     x       x
jobs/training/checkpoint.py         .          .           .           .         .         .        .     x       .
jobs/train.py                       .          .           .           .         .         .        .     x       .
jobs/step/reuse.py                  x          x           x           x         x         x        x     .       x
jobs/lake/tables.py                 x          x           x           x         x         x        x     x       x
jobs/__init__.py                    x          x           x           x         x         x        x     x       x
requirements.txt                    x          x           x           x         x         x        x     x       x
esans_core/towers.py                .          .           .           .         .         .        .     x       x
esans_core/clusters/codebooks.py    .          .           .           x         x         .        .     x       x
esans_core/defaults.py              x          x           x           x         x         x        x     x       x
dags/steps.py                       .          .           .           .         .         .        .     .       .
infra/local/run.py                  .          .           .           .         .         .        .     .       .
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code, to edit."""
    for name in ("jobs", "esans_core", "dags", "infra"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    return tmp_path


def edit(path: Path) -> None:
    path.write_text(path.read_text() + ("\nEDITED = 1\n" if path.suffix == ".py" else "\n"))


def digests(root: Path) -> dict[str, str]:
    return {step: code_digest(root, root / file) for step, file in STEPS.items()}


def test_an_edit_runs_the_steps_again_that_import_it_and_no_others(checkout: Path) -> None:
    head, *rows = EDITS.strip("\n").splitlines()
    columns, before = head.split(), digests(checkout)
    assert columns == list(STEPS)
    wanted, found = [head], [head]
    for row in rows:
        name, *marks = row.split()
        path = checkout / name
        text = path.read_text()
        edit(path)
        after = digests(checkout)
        path.write_text(text)
        again = ["x" if after[step] != before[step] else "." for step in columns]
        wanted.append(f"{name:30} {' '.join(marks)}")
        found.append(f"{name:30} {' '.join(again)}")
    assert "\n".join(found) == "\n".join(wanted)


FOUND = {  # a module's source, and the other files of the checkout below that belong to its code
    "import pkg.leaf": "pkg/__init__ pkg/leaf",
    "import pkg.leaf as other": "pkg/__init__ pkg/leaf",
    "from pkg import leaf": "pkg/__init__ pkg/leaf",
    "from pkg import NAME": "pkg/__init__",
    "from pkg.leaf import NAME": "pkg/__init__ pkg/leaf",
    "from pkg.uses_leaf import f": "pkg/__init__ pkg/uses_leaf pkg/leaf",
    "from pkg.room import sibling": "pkg/__init__ pkg/room/__init__ pkg/room/sibling pkg/leaf",
    "from pkg.room.relative import f": "pkg/__init__ pkg/room/__init__ pkg/room/relative pkg/room/sibling pkg/leaf",
    "def f():\n    from pkg import leaf": "pkg/__init__ pkg/leaf",
    "try:\n    import pkg.leaf\nexcept ImportError: pass": "pkg/__init__ pkg/leaf",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import leaf": "",
    "import typing\nif typing.TYPE_CHECKING:\n    import pkg.leaf\nelse:\n    import pkg": "pkg/__init__",
    "if not TYPE_CHECKING:\n    from pkg import leaf": "pkg/__init__ pkg/leaf",
    "import importlib\nimportlib.import_module('pkg.leaf')": "pkg/__init__ pkg/leaf",
    "import_module(f'pkg.room.{name}')": "pkg/__init__ pkg/room/__init__ pkg/room/sibling pkg/room/relative pkg/leaf",
    "import_module('pkg.' + 'le' + x)": "pkg/__init__ pkg/leaf",
    "subprocess.run([sys.executable, '-m', 'pkg.leaf', '--flag'])": "pkg/__init__ pkg/leaf",
    "subprocess.run([sys.executable, '-m', f'pkg.le{x}'])": "pkg/__init__ pkg/leaf",
    "subprocess.run(['python', '-m', 'pkg.run'])": "pkg/__init__ pkg/run/__init__ pkg/run/__main__ pkg/leaf",
    "entry = 'pkg.leaf'": "pkg/__init__ pkg/leaf",
    "print('see pkg.leaf for more')": "",
    "from lazy.a import A": "lazy/__init__ lazy/a",
    "from lazy import a": "lazy/__init__ lazy/a",
    "import lazy.a as a": "lazy/__init__ lazy/a",
    "from lazy import A": "lazy/__init__ lazy/a lazy/b pkg/__init__ pkg/leaf",
    "from lazy import *": "lazy/__init__ lazy/a lazy/b pkg/__init__ pkg/leaf",
    "import lazy": "lazy/__init__ lazy/a lazy/b pkg/__init__ pkg/leaf",
    "import lazy.a": "lazy/__init__ lazy/a lazy/b pkg/__init__ pkg/leaf",
    "import pages.show": "pages/__init__ pages/show pages/page.html pages/parts/row.html",
    "import pages.other": "pages/__init__ pages/other",
    "import pages.resource": "pages/__init__ pages/resource pages/page.html pages/parts/row.html",
    "import machinery": "",
    "import numpy, os.path": "",
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of a few small modules."""
    root = tmp_path_factory.mktemp("toy")
    files = {
        "pkg/__init__.py": "NAME = 1",
        "pkg/leaf.py": "NAME = 2",
        "pkg/uses_leaf.py": "import pkg.leaf as leaf\ndef f(): return leaf",
        "pkg/room/__init__.py": '"""A room."""',
        "pkg/room/sibling.py": "from .. import leaf",
        "pkg/room/relative.py": "from .sibling import leaf\nfrom . import sibling",
        "pkg/run/__init__.py": "",
        "pkg/run/__main__.py": "from ..leaf import NAME",
        "lazy/__init__.py": "_WHERE = {'A': 'lazy.a', 'B': 'lazy.b', 'C': 'pkg.leaf'}\n"
        "def __getattr__(name):\n    return getattr(import_module(_WHERE[name]), name)",
        "lazy/a.py": "A = 1",
        "lazy/b.py": "B = 1",
        "pages/__init__.py": "",
        "pages/show.py": "from pathlib import Path\nFOLDER = Path(__file__).parent",
        "pages/resource.py": "from importlib import resources\nPAGE = resources.files('pages')",
        "pages/other.py": "X = 1",
        "pages/page.html": "<p>",
        "pages/parts/row.html": "<tr>",
        "machinery.py": "import pkg.leaf\nOUTSIDE_KEYS = 'it starts steps'",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize("source", FOUND)
def test_every_way_to_import_is_followed_and_nothing_else(toy: Path, source: str) -> None:
    start = toy / "start.py"
    start.write_text(source)
    found = {path.relative_to(toy).as_posix().removesuffix(".py") for path in code_files(toy, start)}
    assert found == {"start", *FOUND[source].split()}


def test_an_import_by_an_unknown_name_is_refused(toy: Path) -> None:
    (toy / "start.py").write_text("def load(name):\n    return import_module(name)")
    with pytest.raises(ValueError, match=r"start.py, line 2: nothing in the source says which module"):
        code_files(toy, toy / "start.py")


def test_comments_docstrings_and_layout_change_no_key(toy: Path) -> None:
    start = toy / "start.py"

    def digest_of(text: str) -> str:
        start.write_text(text)
        return code_digest(toy, start)

    usual = digest_of('"""What it is."""\ndef f(a, b):\n    "Adds."\n    return a + b\n')
    assert digest_of("# why\ndef f(\n    a,\n    b,\n):\n    'Adds two numbers.'\n\n    return (a + b)  # so\n") == usual
    assert digest_of('"""What it is."""\ndef f(a, b):\n    "Adds."\n    return a - b\n') != usual
    shown = '"""What it is."""\nprint(__doc__)\n'
    assert digest_of(shown) != digest_of(shown.replace("What", "Who")), "a docstring that is read is code"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["build_training_set", "fit_codebooks", "train"])
def test_nothing_that_is_really_imported_is_missed(step: str) -> None:
    """Compares with Python itself: what a step's module loads, without what only the machinery around it loads."""
    program = (
        "import sys, types, json\n"
        "machinery = types.ModuleType('jobs.step.runtime')\n"
        "machinery.run_job = None\n"
        "sys.modules['jobs.step.runtime'] = machinery\n"
        f"import jobs.{step}\n"
        "files = [getattr(module, '__file__', None) for module in list(sys.modules.values())]\n"
        "print(json.dumps([file for file in files if file]))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    ours = {Path(file) for file in json.loads(loaded.splitlines()[-1])}
    ours = {path for path in ours if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / ".venv")}
    assert len(ours) > 8 and ours <= code_files(ROOT, ROOT / "jobs" / f"{step}.py")


# Commands one after the other in one process, so that the second finds the JVM that the first has started.
COMMANDS = """
import runpy, sys

for name in sys.argv[2:]:
    sys.argv[1:] = ["--settings", {settings!r}]
    try:
        runpy.run_module(f"jobs.{{name}}", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        assert ended.code == 0, name
"""


@pytest.mark.spark
@pytest.mark.slow
def test_two_real_steps_after_edits(checkout: Path, settings: PipelineSettings, tmp_path: Path, short_jvm: str) -> None:
    """Runs commands of a copied checkout. Their own records say which of them run again after an edit."""
    path = tmp_path / "settings.json"
    path.write_text(settings.model_dump_json())

    def commands(*names: str) -> None:
        environment = os.environ | {"PYTHONPATH": "", "JDK_JAVA_OPTIONS": short_jvm}
        program = [sys.executable, "-c", COMMANDS.format(settings=str(path)), "-", *names]
        subprocess.run(program, cwd=checkout, env=environment, check=True)

    def reused(*edited: str, first: tuple[str, ...] = ()) -> tuple[bool, bool]:
        for name in edited:
            edit(checkout / name)
        commands(*first, "ingest", "build_training_set")
        records = [settings.run_dir / "steps" / f"{step}.json" for step in ("ingest", "build_training_set")]
        found = [json.loads(record.read_text())["reused"] for record in records]
        return found[0], found[1]

    assert reused(first=("prepare",)) == (False, False)
    assert reused("jobs/report/charts.py", "jobs/training/data.py", "esans_core/towers.py") == (True, True)
    assert reused("jobs/source/splitting.py") == (False, True), "the ingest runs again and leaves the same tables"
