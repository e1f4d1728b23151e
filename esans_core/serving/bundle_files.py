"""Tells whether the files of a serving bundle are the ones that were built.

It imports no torch, because whoever moves or promotes a bundle need not load it.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

BUNDLE = "bundle.json"


def checked(folder: Path) -> dict[str, Any]:
    """The content of bundle.json, after a check that every file is the one that was built.

    Raises:
        ValueError: a file is missing, was changed or does not belong there, or bundle.json itself was changed.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / BUNDLE).read_text())
        expected, digest = dict(content["files"]), content["digest"]
        said = overall_digest(content["about"], expected)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / BUNDLE} cannot be read as the description of a bundle ({error})") from error
    if said != digest:
        raise ValueError(f"{folder / BUNDLE} was changed: it says digest {digest}, and what it says has digest {said}")
    present = file_digests(folder)
    if present != expected:
        wrong = sorted(name for name in present.keys() | expected.keys() if present.get(name) != expected.get(name))
        raise ValueError(f"{folder} is not what was built: {', '.join(wrong[:5])} missing, changed or too many")
    return content


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder except bundle.json, by its path there; links are left out."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            digests[path.relative_to(folder).as_posix()] = "link"
        elif path.is_file() and path != folder / BUNDLE:
            with path.open("rb") as stream:
                digests[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def overall_digest(about: dict[str, Any], files: dict[str, str]) -> str:
    """SHA-256 over what a bundle says about itself and the digests of its files. It identifies the whole content."""
    return hashlib.sha256(json.dumps({"about": about, "files": files}, sort_keys=True).encode()).hexdigest()
