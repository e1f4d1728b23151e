"""The reference of the library: every exported name stands on its page, and everything public has a docstring."""

import re
from collections.abc import Iterator
from typing import Any

import griffe

import esans_core
from infra.docs_site.links import REPOSITORY

PAGE = "reference/library.md"
_ENTRY = re.compile(r"^::: esans_core\.(\w+)$", re.MULTILINE)


def for_site(markdown: str) -> str:
    """The page in which each `::: esans_core.Name` has the full path of the name's definition.

    mkdocstrings reads the source without running it, so it could not follow exports that are loaded lazily.
    """
    return _ENTRY.sub(lambda match: f"::: {_defined_at(match[1])}", markdown)


def complaints(markdown: str) -> Iterator[str]:
    """What is wrong with the reference, in sentences; nothing if all is well.

    Args:
        markdown: the page as it stands in the repository.
    """
    listed = _ENTRY.findall(markdown)
    for name in sorted(set(esans_core.__all__) - set(listed)):
        yield f"esans_core exports {name}, which docs/{PAGE} does not list: add the line '::: esans_core.{name}'"
    for name in sorted(set(listed) - set(esans_core.__all__)):
        yield f"docs/{PAGE} lists {name}, which esans_core does not export: take the line out"
    package = griffe.load("esans_core", search_paths=[str(REPOSITORY)], try_relative_path=False)
    for name in esans_core.__all__:
        path = _defined_at(name).removeprefix("esans_core.")
        yield from (f"{where} has no docstring" for where in _undocumented(package[path]))


def _defined_at(name: str) -> str:
    """Full path of an exported name's definition."""
    value = getattr(esans_core, name, None)
    module, known_as = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and module.startswith("esans_core") and known_as:
        return f"{module}.{known_as}"
    return _constant(name)


def _constant(name: str) -> str:
    """Module of a constant: the one whose source assigns it, because a constant does not know its module."""
    for path in sorted((REPOSITORY / "esans_core").rglob("*.py")):
        if re.search(rf"^{name}\b[^=\n]*=", path.read_text(), re.MULTILINE):
            return ".".join([*path.relative_to(REPOSITORY).with_suffix("").parts, name])
    return f"esans_core.{name}"


def _undocumented(found: Any) -> Iterator[str]:
    """Paths of objects without a docstring: the object itself, and public members that its docstring does not name either."""
    if not found.has_docstring:
        yield found.path
        return
    if found.is_class:
        said = found.docstring.value
        for name, member in found.members.items():
            if name.startswith("_") or member.is_alias:
                continue
            if not member.has_docstring and not (member.is_attribute and re.search(rf"\b{name}\b", said)):
                yield member.path
