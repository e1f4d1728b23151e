"""Checks bundles: where a version has its own, by which tag it is known, and whether every file is the one that was built."""

from pathlib import Path
from typing import Any

from esans_core.serving.bundle_files import checked
from jobs.base.errors import DataError

BUNDLE_DIGEST = "esans.bundle_digest"  # tag of a version
IN_MODEL = "artifacts/bundle"  # where a registered model holds its bundle


def verify(folder: Path) -> dict[str, Any]:
    """The content of a bundle's bundle.json, after a check that every file is the one that was built.

    Raises:
        DataError: a file is missing, was changed or was added, or bundle.json itself was changed.
    """
    try:
        return checked(folder)
    except ValueError as error:
        raise DataError(
            f"{error}.", file=folder, remedy="take the bundle from the registry again, or serve an earlier one."
        ) from error
