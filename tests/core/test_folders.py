"""What the library's modules may import: torch and numpy, and in two folders what a pip extra brings."""

import ast
from collections.abc import Iterator
from pathlib import Path

import esans_core

LIBRARY = Path(esans_core.__file__).parent
FOLDERS = {"clusters": {"faiss"}, "serving": {"faiss", "pyarrow"}}


def imported(nodes: list[ast.stmt]) -> Iterator[str]:
    for node in nodes:
        for child in ast.walk(node):
            if isinstance(child, ast.Import):
                yield from (alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                yield child.module


def at_the_top(path: Path) -> set[str]:
    body = ast.parse(path.read_text()).body
    return set(imported([node for node in body if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.If)]))


def test_only_two_folders_take_more_than_torch_and_numpy_and_faiss_waits_for_its_function() -> None:
    extras = {name for names in FOLDERS.values() for name in names}
    assert {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name != "__pycache__"} == set(FOLDERS)
    http = {"fastapi", "fastapi_offline", "limits", "prometheus_client", "pydantic", "starlette", "uvicorn"}
    for path in LIBRARY.rglob("*.py"):
        taken = {name.split(".")[0] for name in imported(ast.parse(path.read_text()).body)}
        server = path.parent.name == "serving" and path.stem.startswith(("http_", "__main__"))
        assert server or not taken & http, f"{path.relative_to(LIBRARY)} imports {taken & http}"
        assert server or not any("serving.http_" in name for name in imported(ast.parse(path.read_text()).body))
        allowed = FOLDERS.get(path.parent.name, set())
        taken = {name.split(".")[0] for name in imported(ast.parse(path.read_text()).body)} & extras
        assert taken <= allowed, f"{path.relative_to(LIBRARY)} imports {taken - allowed}"
        assert "faiss" not in {name.split(".")[0] for name in at_the_top(path)}, path.relative_to(LIBRARY)


def test_arrows_go_from_the_folders_to_the_rest_and_not_back() -> None:
    for path in LIBRARY.rglob("*.py"):
        folders = {name.split(".")[1] for name in at_the_top(path) if name.startswith("esans_core.")} & set(FOLDERS)
        assert folders <= {path.parent.name}, f"{path.relative_to(LIBRARY)} imports {folders}"
