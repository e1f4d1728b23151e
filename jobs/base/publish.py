"""Folders that are not lake tables (snapshots, the hidden truth, reports) put in place whole or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.base.files import folder_digest


@contextmanager
def published_folder(target: Path) -> Iterator[Path]:
    """A staging folder beside `target` that takes its place when the block ends without an error.

    A block that fails leaves `target` as it was. Content equal to what is there already is thrown away, so that writing
    twice leaves even the file times alone.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".staging-{target.name}-{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        yield staging
        if not target.exists():
            staging.rename(target)
        elif folder_digest(staging) != folder_digest(target):
            # A folder cannot be renamed onto a full one: the old one steps aside first.
            replaced = target.parent / f".replaced-{target.name}-{uuid.uuid4().hex}"
            target.rename(replaced)
            staging.rename(target)
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
