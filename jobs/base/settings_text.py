"""Settings as text: flat names, what is wrong with a value, and the name of a workspace."""

import difflib
import re
import reprlib
from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError


def flatten(values: dict, prefix: str = "") -> dict[str, str | int | float | bool]:
    """Turn a nested mapping into a flat one, whose names are joined by dots."""
    out: dict[str, str | int | float | bool] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            out.update(flatten(value, f"{prefix}{name}."))
        else:
            out[prefix + name] = value
    return out


def nest(values: Mapping[str, object]) -> dict[str, Any]:
    """Inverse of `flatten`: turn names joined by dots into a nested mapping.

    >>> nest({"training.epochs": 3, "home": "x"})
    {'training': {'epochs': 3}, 'home': 'x'}
    """
    out: dict[str, Any] = {}
    for name, value in values.items():
        section, _, rest = name.partition(".")
        if rest:
            out.setdefault(section, {})[rest] = value
        else:
            out[section] = value
    return out


_ALIKE = 0.5  # of `difflib`'s ratio; below it a hint misleads more than it helps
_NAMES = "expected names with what they mean, such as {name: value}"


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that is most like the whole name, or like its last part if its section is wrong; None for none."""

    def likeness(other: str) -> float:
        whole, last = ((name, other), (name.rsplit(".", 1)[-1], other.rsplit(".", 1)[-1]))
        return max(difflib.SequenceMatcher(None, *whole).ratio(), 0.95 * difflib.SequenceMatcher(None, *last).ratio())

    found = max(sorted(known), key=likeness, default=None)
    return found if found is not None and likeness(found) > _ALIKE else None


def explain(error: ValidationError, *, section: str = "", known: Collection[str] = ()) -> str:
    """What the schema refuses and why, on one line: `name: reason (got value)` for each setting.

    Args:
        error: of the whole schema, or of one section.
        section: name of that section.
        known: names of settings, of which the nearest is told where a name is unknown.
    """
    reasons = []
    for detail in error.errors():
        name = ".".join(str(part) for part in (*([section] if section and detail["loc"] else []), *detail["loc"]))
        says = _NAMES if detail["type"] in ("dict_type", "model_type") else detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            near = nearest(name, known)
            reasons.append(f"{name}: there is no such setting" + (f" (the nearest is {near})" if near else ""))
        elif name and not isinstance(detail["input"], dict):
            reasons.append(f"{name}: {says} (got {_shown(detail['input'])})")
        elif name and detail["type"] != "value_error":
            reasons.append(f"{name}: {says}")
        else:
            reasons.append(says)
    return "; ".join(reasons)


def _shown(value: object) -> str:
    """A value as Python prints it; of lists in lists, which a file of a few lines can make endless, the beginning."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return repr(value) if isinstance(value, str) else short.repr(value)


def workspace_name(source: str) -> str:
    """A folder name for a data source: the embedded shop's, or a slug of the source's last path part.

    >>> workspace_name("embedded"), workspace_name("/data/Movie Lens/")
    ('embedded', 'movie-lens')
    """
    return re.sub(r"[^a-z0-9]+", "-", source.rstrip("/").rsplit("/", 1)[-1].lower()).strip("-") or "data"
