"""The map of the house: which rooms `jobs/` has, which way imports may point, and that pages and code say the same of it.

A room is a folder of `jobs/`. To add one, or an arrow, change `MAY_IMPORT`, the room's `__init__.py` and the map in
`docs/architecture.md` together.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
JOBS = ROOT / "jobs"
MAY_IMPORT = {
    "base": set(),
    "lake": {"base"},
    "step": {"base", "lake"},
    "shop": {"base", "lake"},
    "landing": {"base"},
    "source": {"base", "lake", "shop", "landing"},
    "features": {"base", "lake", "source"},
    "clusters": {"base", "lake"},
    "training": {"base", "lake", "step", "shop", "clusters"},
    "gates": {"base", "lake", "source"},
    "preflight": {"base", "lake", "landing", "source", "gates"},
    "serving": {"base", "lake", "training"},
    "pages": {"base"},
    "registry": {"base", "lake", "step", "gates", "serving", "pages"},
    "forget": {"base", "lake", "step", "landing", "serving", "registry"},
    "ranking": {"base", "lake", "shop", "clusters", "training", "serving", "registry"},
    "report": {"base", "lake", "step", "source", "clusters", "gates", "serving", "pages", "registry"},
    "tuning": {"base", "lake", "step", "training", "pages", "registry", "report"},
}
SIDE_BY_SIDE = 22  # modules in one folder; more are no longer read by their names
COMMAND_LINES = 60
# What may be read of the jobs by those who only start them.
FOR_DAGS = {"jobs.base.errors", "jobs.base.files", "jobs.base.settings", "jobs.pages.addresses"}
FOR_DAGS |= {"jobs.registry.mlflow_pages", "jobs.registry.choices"}
FOR_INFRA = {"jobs.base", "jobs.pages.addresses", "jobs.report", "jobs.landing", "jobs.preflight"}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in the file; `from a import b` counts as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of_jobs(path: Path) -> list[str]:
    return [name for name in imports(path) if name.split(".")[0] == "jobs"]


def modules(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if path.name != "__init__.py")


def commands() -> list[Path]:
    return sorted(path for path in JOBS.glob("*.py") if path.name != "__init__.py")


def test_the_folders_of_jobs_are_the_rooms_of_the_map() -> None:
    assert {path.name for path in JOBS.iterdir() if (path / "__init__.py").exists()} == set(MAY_IMPORT)


def test_arrows_go_one_way() -> None:
    done: set[str] = set()
    for room, allowed in MAY_IMPORT.items():  # each room stands below all those that it may import
        assert allowed <= done, f"{room} may import {sorted(allowed - done)}, which stand no lower"
        done.add(room)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_what_its_first_lines_say(room: str) -> None:
    allowed = MAY_IMPORT[room] | {room}
    text = (JOBS / room / "__init__.py").read_text()
    says = ast.get_docstring(ast.parse(text)) or ""
    what, empty, may_import = says.splitlines()
    assert what.endswith(".") and not empty
    listed = may_import.removeprefix("May import: ").removesuffix(".").split(", ")
    assert set(listed) == (MAY_IMPORT[room] or {"no other room"})
    assert not [name for name in imports(JOBS / room / "__init__.py") if name.split(".")[0] not in sys.stdlib_module_names]
    wrong = {f"{path.relative_to(ROOT)}: {name}" for path in modules(JOBS / room) for name in of_jobs(path)}
    wrong -= {entry for entry in wrong if entry.split("jobs.")[-1].split(".")[0] in allowed}
    assert not wrong


def test_no_folder_holds_more_than_can_be_read_by_names() -> None:
    for folder in {path.parent for path in JOBS.rglob("*.py")}:
        count = len([path for path in folder.glob("*.py") if path.name != "__init__.py"])
        assert count <= SIDE_BY_SIDE, f"{folder.relative_to(ROOT)} has {count} modules side by side"


def test_a_command_is_arguments_a_call_and_an_exit_status() -> None:
    assert commands()
    for path in commands():
        text = path.read_text()
        body = ast.parse(text).body
        assert len(text.splitlines()) <= COMMAND_LINES, f"{path.name} does more than a command should: give it to a room"
        assert not [node for node in body if isinstance(node, ast.ClassDef)], path.name
        assert ast.unparse(body[-1]).startswith("if __name__ == '__main__':"), f"{path.name} is no command"
        assert re.search(r"\brun_(job|action)\(", ast.unparse(body[-1])), path.name


def test_nobody_imports_a_command() -> None:
    names = {f"jobs.{path.stem}" for path in commands()} - {f"jobs.{room}" for room in MAY_IMPORT}
    for folder in ("jobs", "dags", "infra", "benchmarks"):
        for path in modules(ROOT / folder):
            found = [name for name in of_jobs(path) if ".".join(name.split(".")[:2]) in names]
            assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_every_step_that_a_dag_names_is_a_command() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "dags").glob("*.py"))
    named = set(re.findall(r'job="(\w+)"', text)) | set(re.findall(r'\b(?:action|steps\.python|steps\.spark)\("(\w+)", ', text))
    there = {path.stem for path in commands()} | {path.parent.name for path in JOBS.glob("*/__main__.py")}
    assert len(named) > 5
    assert {name for name in named if not re.match("gate_|train_", name)} <= there


def test_between_the_folders_of_the_project_imports_point_one_way() -> None:
    for path in modules(ROOT / "esans_core"):
        assert not [name for name in imports(path) if name.split(".")[0] in ("jobs", "dags", "infra", "benchmarks")], path.name
    above = ("dags", "infra", "benchmarks", "airflow")
    for path in modules(JOBS):
        assert not [name for name in imports(path) if name.split(".")[0] in above], path.name
    for folder, allowed in (("dags", FOR_DAGS), ("infra", FOR_INFRA)):
        for path in modules(ROOT / folder):
            wrong = [name for name in of_jobs(path) if not any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)]
            assert not wrong, f"{path.relative_to(ROOT)} imports {wrong}"


def test_settings_have_one_import_name() -> None:
    inside = {JOBS / "base" / "settings.py", JOBS / "base" / "agreed.py", *(JOBS / "base" / "sections").glob("*.py")}
    for folder in ("jobs", "dags", "infra", "benchmarks", "tests"):
        for path in set(modules(ROOT / folder)) - inside:
            found = [name for name in of_jobs(path) if name.startswith(("jobs.base.sections", "jobs.base.settings_text"))]
            assert not found, f"{path.relative_to(ROOT)}: import {found} from jobs.base.settings"


def test_the_page_draws_this_map() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for room in MAY_IMPORT:
        says = (ast.get_docstring(ast.parse((JOBS / room / "__init__.py").read_text())) or "").splitlines()
        listed = says[-1].removeprefix("May import: ").removesuffix(".")
        assert f"| `jobs/{room}/` | {says[0]} | {listed} |" in page
    assert "](images/rooms.svg)" in page
    drawn = set(re.findall(r"^  (\w+) -> (\w+)$", (ROOT / "docs" / "images" / "rooms.dot").read_text(), flags=re.M))
    svg = (ROOT / "docs" / "images" / "rooms.svg").read_text()
    assert set(re.findall(r"<title>(\w+)&#45;&gt;(\w+)</title>", svg)) == drawn, "draw rooms.svg anew from rooms.dot"
    below: dict[str, set[str]] = {}
    for room, allowed in MAY_IMPORT.items():
        below[room] = set(allowed).union(*(below[other] for other in allowed))
    below["commands"] = set(MAY_IMPORT)
    nearest = {(room, to) for room, all_of in below.items() for to in all_of if not any(to in below[via] for via in all_of)}
    assert drawn == nearest  # what is reached by way of another room has no arrow of its own
