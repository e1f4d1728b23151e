"""Keeps fetched pictures in the home: for each URL a record, and the picture as it came."""

import hashlib
import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from upath import UPath

from jobs.base.files import write_text
from jobs.base.settings import PipelineSettings

NOT_FETCHED = "not_fetched"  # no step has come to it yet


@dataclass(frozen=True)
class FetchedPicture:
    """What is known of a URL.

    Attributes:
        url: the URL.
        checked: Unix time at which its server was asked last.
        why: why there is no picture; empty if there is one.
        content: SHA-256 of the picture; empty if there is none.
        size: of the picture, in bytes.
        etag: what the server calls this state of the picture; empty if it does not say.
        last_modified: when the server says that it changed; empty if it does not say.
    """

    url: str
    checked: float
    why: str = ""
    content: str = ""
    size: int = 0
    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True)
class PictureCache:
    """The fetched pictures of a home. It never asks a server, so workers may look into it.

    A picture is there before its record names it, and both are put in place by a rename. So nobody sees half of either.

    Attributes:
        folder: of the cache.
    """

    folder: Path

    @classmethod
    def of(cls, settings: PipelineSettings) -> "PictureCache | None":
        """The cache of a home; None if no picture may be fetched."""
        return cls(settings.home / "pictures") if settings.pictures.hosts.strip() else None

    def find(self, url: str) -> FetchedPicture | None:
        """The record of a URL; None if it was never fetched, or if its record or picture is damaged."""
        try:
            found = FetchedPicture(**json.loads(self._record(url).read_text()))
        except (OSError, ValueError, TypeError):
            return None
        if found.url != url or (found.content and not self.content(found).exists()):
            return None
        return found

    def content(self, found: FetchedPicture) -> UPath:
        """The file of a picture."""
        return UPath(self._record(found.url).with_name(f"{_name(found.url)}-{found.content[:32]}.picture"))

    def keep(self, found: FetchedPicture, content: bytes | None = None) -> None:
        """Keep a record, and its picture if that is new. What was kept of the URL before is removed."""
        record = self._record(found.url)
        record.parent.mkdir(parents=True, exist_ok=True)
        if content is not None:
            draft = record.with_name(f".{uuid.uuid4().hex}")
            try:
                draft.write_bytes(content)
                draft.replace(str(self.content(found)))
            finally:
                draft.unlink(missing_ok=True)
        write_text(record, json.dumps(asdict(found)))
        for old in record.parent.glob(f"{_name(found.url)}-*.picture"):
            if not found.content or old.name != self.content(found).name:
                old.unlink(missing_ok=True)

    def use(self, url: str) -> None:
        """Note that a catalogue still names a URL."""
        with suppress(OSError):
            os.utime(self._record(url))

    def sweep(self, days: int) -> None:
        """Remove what no catalogue has named for so many days, and drafts that killed processes left."""
        before = time.time() - max(days, 1) * 86_400
        for path in self.folder.glob("*/*"):
            with suppress(OSError):
                record = path.with_name(f"{path.name.partition('-')[0]}.json")
                is_picture = path.suffix == ".picture" and record.exists()
                if not is_picture and path.stat().st_mtime < before:
                    path.unlink()

    def _record(self, url: str) -> Path:
        name = _name(url)
        return self.folder / name[:2] / f"{name}.json"


def _name(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:40]
