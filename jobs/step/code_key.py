"""The part of a step's key that stands for its code: a digest of the modules that the step imports, and of no others.

Nothing is run to find the modules. They are found by the import statements in the source, at the top of a file, inside a
function or behind a condition. These rules decide what belongs to the code of a step:

- A module is followed only if its file lies in this checkout. Installed packages are covered by `requirements.txt`, which
  is part of every digest.
- Importing `a.b.c` also runs `a/__init__.py` and `a/b/__init__.py`, so both belong to the code.
- Imports under `if TYPE_CHECKING:` never run, so they are left out.
- A package whose `__init__.py` has a `__getattr__` is lazy: it loads its names when they are asked for. A module that takes
  such a name from the package, or holds the package itself, depends on the whole package. A module that imports a module of
  the package directly depends on that module alone.
- `import_module(...)` and `python -m` may get a name that is put together at run time, such as `f"jobs.gates.{stage}"`. Every
  module whose name fits then belongs to the code. If nothing at all is known of the name, the import is refused.
- A text that is the dotted name of a module, such as `"jobs.train"` in a command line, counts as an import of that module.
- Files that are not Python code (templates, tables) belong to a module beside them if its source says that it looks for files,
  by `__file__` or by a loader of package files.
- A module that sets `OUTSIDE_KEYS` to a reason is left out, and its imports are not followed. Such a module starts steps and
  records them. It cannot change what they write.

A module counts by its syntax tree without docstrings. So a comment, a docstring or another layout of the lines changes no key:
it would be a waste to train again for hours because a sentence became clearer. In a module that reads `__doc__`, docstrings
count.
"""

import ast
import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OUTSIDE = "OUTSIDE_KEYS"
_IMPORTERS = frozenset({"import_module", "__import__", "run_module"})
_FINDS_FILES = frozenset({"__file__", "__path__", "resources", "PackageLoader", "get_data"})
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def code_key(work: Callable[..., Any]) -> str:
    """Digest of the code that decides what a function does: the module that defines it, and all that this module imports.

    Args:
        work: a function of this checkout, such as the `run` of a step.

    Returns:
        64 hex digits.

    Raises:
        ValueError: one of the modules imports another by a name of which the source says nothing.
    """
    return _code_digest_once(_root(), Path(inspect.getfile(inspect.unwrap(work))).resolve())


def package_key(name: str) -> str:
    """Digest of every module of a package of this checkout, imported or not. It is for steps that ship the whole package."""
    folder = _root() / name
    files = sorted(folder.rglob("*.py"))
    lines = [f"{path.relative_to(folder).as_posix()}:{_source(path).digest}\n" for path in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def code_digest(root: Path, start: Path) -> str:
    """As `code_key`, for a file in any checkout.

    Args:
        root: folder of the checkout, which holds the top-level packages.
        start: Python file in it.
    """
    digest = hashlib.sha256()
    for path in sorted(code_files(root, start)):
        content = _source(path).digest if path.suffix == ".py" else hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()}:{content}\n".encode())
    pinned = root / "requirements.txt"
    digest.update(pinned.read_bytes() if pinned.exists() else b"")
    return digest.hexdigest()


def code_files(root: Path, start: Path) -> set[Path]:
    """The files that `code_digest` covers, besides `requirements.txt`."""
    found, waiting = set[Path](), {start, *_packages_above(root, start)}
    while waiting:
        path = waiting.pop()
        if path.suffix != ".py":
            found.add(path)
        elif path == start or not _source(path).outside:
            found.add(path)
            waiting |= _Reader(root, path).reached - found
    return found


@dataclass(frozen=True)
class _Source:
    """One source file, read once.

    Attributes:
        tree: its syntax tree, without docstrings unless the file reads `__doc__`.
        asks: the nodes that may ask for another module, without those that never run.
        texts: its string constants other than docstrings.
        finds_files: whether it looks for files beside it.
        outside: whether it is left out of every key (`OUTSIDE_KEYS`).
        lazy: whether it is a package that loads names when they are asked for.
    """

    tree: ast.Module
    asks: tuple[ast.AST, ...]
    texts: frozenset[str]
    finds_files: bool
    outside: bool
    lazy: bool

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the tree. Line breaks, spaces and comments do not change it."""
        return hashlib.sha256(ast.dump(self.tree).encode()).hexdigest()


class _Reader:
    """Finds the files that one module asks for.

    Attributes:
        reached: files of the checkout that the module imports, and files beside it that it finds by itself.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self._root, self._path, self._source = root, path, _source(path)
        self._package = ".".join(path.relative_to(root).parts[:-1])
        self.reached = _data_files(path.parent) if self._source.finds_files else set[Path]()
        for node in self._source.asks:
            match node:
                case ast.Import():
                    self._import_statement(node)
                case ast.ImportFrom():
                    self._from_statement(node)
                case ast.Call():
                    self._call(node)
                case ast.List() | ast.Tuple():
                    self._command(node.elts)
                case ast.Constant():
                    self._text(str(node.value))

    def _import_statement(self, node: ast.Import) -> None:
        """`import a.b`, which binds `a`, or `import a.b as c`."""
        for alias in node.names:
            self._import(alias.name)
            for held in [alias.name] if alias.asname else _names_above(alias.name):
                self._hold(held)

    def _from_statement(self, node: ast.ImportFrom) -> None:
        """`from a import b`, `from . import b`, `from .a import b`."""
        base = self._absolute("." * node.level + (node.module or ""))
        self._import(base)
        package = _file_of(self._root, base)
        for alias in node.names if package else ():
            inside = f"{base}.{alias.name}"
            is_module = _file_of(self._root, inside) is not None
            if is_module:
                self._import(inside)
                self._hold(inside)
            if package and (not is_module or alias.name in _source(package).texts):
                self._hold(base)

    def _call(self, node: ast.Call) -> None:
        """`import_module(name)` and similar calls."""
        pattern = _pattern(node.args[0])
        if not pattern.replace(".*", ""):
            raise ValueError(
                f"{self._path.relative_to(self._root)}, line {node.lineno}: nothing in the source says which module is "
                "imported here, so no step's key can cover it. Write the name, or its beginning, as a string in the call."
            )
        if pattern.startswith(r"\."):
            dots = len(pattern) - len(pattern.lstrip("\\."))
            pattern = re.escape(self._absolute("." * (dots // 2))) + r"\." + pattern[dots:]
        self._import_all(pattern)

    def _text(self, text: str) -> None:
        """A text that may name a module."""
        self._import(text)
        file = _file_of(self._root, text)
        if file and file.name == "__init__.py":
            self._import(f"{text}.__main__")
            self.reached |= _data_files(file.parent) if self._source.finds_files else set()

    def _command(self, parts: list[ast.expr]) -> None:
        """`[python, "-m", name]`."""
        for flag, name in zip(parts, parts[1:], strict=False):
            if isinstance(flag, ast.Constant) and flag.value == "-m" and not isinstance(name, ast.Constant):
                pattern = _pattern(name)
                if pattern.replace(".*", ""):
                    self._import_all(pattern)

    def _absolute(self, name: str) -> str:
        """The full form of a name that may begin with dots, relative to this module's package."""
        level = len(name) - len(name.lstrip("."))
        if not level:
            return name
        above = self._package.split(".")
        return ".".join([*above[: len(above) - level + 1], *filter(None, [name.lstrip(".")])])

    def _import(self, name: str) -> None:
        """Add what runs when a module is imported: the module and the packages above it."""
        self.reached |= {file for above in _names_above(name) if (file := _file_of(self._root, above))}

    def _import_all(self, pattern: str) -> None:
        for name in _all_modules(self._root):
            if re.fullmatch(pattern, name):
                self._import(name)

    def _hold(self, name: str) -> None:
        """Add all that a lazy package may load once a module holds it. For others, `_import` has added all there is."""
        file = _file_of(self._root, name)
        if file is None or file.name != "__init__.py" or not _source(file).lazy:
            return
        self.reached |= set(file.parent.rglob("*.py"))
        for text in _source(file).texts:
            if _DOTTED.fullmatch(text):
                self._import(text)


def _source(path: Path) -> _Source:
    return _read(path.read_bytes())


@functools.cache
def _read(content: bytes) -> _Source:
    tree = ast.parse(content)
    nodes = list(ast.walk(tree))
    used = {name for node in nodes if isinstance(node, ast.expr) and (name := _name_of(node))}
    used |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
    if "__doc__" not in used:
        for node in nodes:
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _has_docstring(node):
                del node.body[0]
    named = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            named |= {node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    lazy = "__getattr__" in named
    return _Source(
        tree,
        tuple(node for node in _that_run(tree, lazy=lazy) if _asks(node, lazy=lazy)),
        frozenset(node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)),
        bool(_FINDS_FILES & used),
        _OUTSIDE in named,
        lazy,
    )


def _that_run(node: ast.AST, *, lazy: bool) -> Iterator[ast.AST]:
    """A node and all below it, without what only a type checker sees and what a lazy package loads later."""
    yield node
    below = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.If) and _name_of(node.test) == "TYPE_CHECKING":
        below = list(node.orelse)
    elif lazy and isinstance(node, ast.FunctionDef) and node.name == "__getattr__":
        below = []
    for child in below:
        yield from _that_run(child, lazy=lazy)


def _asks(node: ast.AST, *, lazy: bool) -> bool:
    """Whether a node may ask for a module. The strings of a lazy package count only for modules that hold it (`_hold`)."""
    match node:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Call():
            return bool(node.args) and _name_of(node.func) in _IMPORTERS
        case ast.List() | ast.Tuple():
            return any(isinstance(part, ast.Constant) and part.value == "-m" for part in node.elts)
        case ast.Constant():
            return not lazy and isinstance(node.value, str) and _DOTTED.fullmatch(node.value) is not None
    return False


@functools.cache
def _file_of(root: Path, name: str) -> Path | None:
    """The file of a module of the checkout; None if it has none."""
    path = root.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.is_file()), None)


def _names_above(name: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`, `a.b.c`."""
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _packages_above(root: Path, path: Path) -> Iterator[Path]:
    for folder in path.relative_to(root).parents:
        if (file := root / folder / "__init__.py").is_file():
            yield file


def _all_modules(root: Path) -> Iterator[str]:
    """Dotted names of all modules of the checkout's packages."""
    for package in root.glob("*/__init__.py"):
        for file in package.parent.rglob("*.py"):
            parts = file.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _data_files(folder: Path) -> set[Path]:
    """Files that are not Python code, in a folder and its subfolders, without the subfolders that are packages."""
    found = set[Path]()
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == "__pycache__":
            continue
        if path.is_dir():
            found |= set() if (path / "__init__.py").exists() else _data_files(path)
        elif path.suffix not in (".py", ".pyc"):
            found.add(path)
    return found


def _has_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def _name_of(node: ast.expr) -> str | None:
    """The last part of a name: `TYPE_CHECKING` of `typing.TYPE_CHECKING`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _pattern(node: ast.expr) -> str:
    """A regular expression for the strings that an expression may give."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.escape(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _pattern(node.left) + _pattern(node.right)
    return ".*"


def _root() -> Path:
    """Folder of the checkout, wherever this file lies below its top-level package."""
    return Path(str(sys.modules[__name__.partition(".")[0]].__file__)).resolve().parents[1]


_code_digest_once = functools.cache(code_digest)  # a process never loads its code again
