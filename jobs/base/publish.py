"""Put folders that are not lake tables (snapshots, the hidden truth, reports) in place whole or not at all."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.base.files import folder_digest


@contextmanager
def published_folder(target: Path) -> Iterator[Path]:
    """A staging folder beside `target` that takes its place when the block ends without an error.

    If the block fails, `target` stays as it was. If the new content equals the old, the old folder stays, so even its file
    times do not change.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = target.parent / f".staging-{target.name}-{uuid.uuid4().hex}"
    staging.mkdir()
    try:
        yield staging
        if not target.exists():
            staging.rename(target)
        elif folder_digest(staging) != folder_digest(target):
            # A folder cannot be renamed onto one that holds files, so the old one is moved away first.
            replaced = target.parent / f".replaced-{target.name}-{uuid.uuid4().hex}"
            target.rename(replaced)
            staging.rename(target)
            shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
