"""Follows the published bundles of a folder: a server that runs for months answers from the bundle that is in force now.

The pipeline replaces `<folder>/CURRENT` when a version is promoted or rolled back (docs/serving.md). A bundle is opened and
checked beside the one in use, and takes its place between two queries. So no query waits, and none is answered by two bundles.

`<folder>/CANARY`, if it is there, names a second bundle and the share of the users who get it. Nobody else is touched by it.
"""

import hashlib
import json
import logging
import threading
import time
from pathlib import Path
from typing import NamedTuple

from esans_core.serving.bundle import ServingBundle, checked

log = logging.getLogger(__name__)


class Served(NamedTuple):
    """A bundle in use, and its name."""

    name: str
    bundle: ServingBundle


class PublishedBundle:
    """The bundle in force below a folder, looked up again every few seconds by a thread of its own.

    Args:
        folder: folder of the published bundles, with `CURRENT` and `bundles`.
        start: what to answer from until a bundle in force could be opened. Without it there must be one at the start.
        seconds: time between two looks.
        patience: seconds after which a bundle that could not be opened is tried again.
        once_in_force: follow only from the moment at which `start` itself is in force. So a version that somebody opened to
            look at it goes on answering, whatever is in force.

    Raises:
        OSError, ValueError: there is no `start`, and no bundle in force that can be opened.
    """

    def __init__(
        self,
        folder: Path,
        start: Served | None = None,
        *,
        seconds: float = 10.0,
        patience: float = 20.0,
        once_in_force: bool = False,
    ) -> None:
        self._folder, self._seconds, self._patience = Path(folder), seconds, patience
        self._canary: tuple[Served, float] | None
        if start is None:
            start = self._open(self._current())
        self._served, self._canary = start, None
        self._waits, self._missed = once_in_force, False
        self._look()
        threading.Thread(target=self._follow, name="published bundle", daemon=True).start()

    @property
    def served(self) -> Served:
        """The bundle to answer from. Take it once for each query, so that the whole answer comes from one bundle."""
        return self._served

    @property
    def canary(self) -> tuple[Served, float] | None:
        """The bundle that is tried on a share of the users, and that share; None if there is none."""
        return self._canary

    def served_for(self, key: str) -> Served:
        """The bundle for one user: the canary for its share of all keys, else the bundle in force.

        The same key gets the same one of the two for as long as a canary lasts, on every server.
        """
        canary = self._canary
        return canary[0] if canary is not None and _place(key, canary[0].name) < canary[1] else self._served

    def _follow(self) -> None:
        while True:
            time.sleep(self._seconds if self._look() else self._patience)

    def _look(self) -> bool:
        """Change to the bundle in force if it is another one; False if it cannot be opened, and the old one stays."""
        try:
            name = self._current()
            self._missed = False
            self._waits = self._waits and _digest(name) != _digest(self._served.name)
            if self._waits:
                return True
            if name != self._served.name:
                self._served = self._open(name)
                log.info("answers come from bundle %s now", name)
            self._look_for_canary()
        except FileNotFoundError as error:
            if not self._missed:
                log.warning("there is no bundle to follow (%s); bundle %s stays in use", error, self._served.name)
            self._missed = True
        except Exception:  # of any kind: a thread that ends would leave an old model in use without a word
            log.exception("the bundle in force cannot be used; bundle %s stays in use", self._served.name)
            return False
        return True

    def _look_for_canary(self) -> None:
        try:
            wanted = json.loads((self._folder / "CANARY").read_text())
        except FileNotFoundError:
            wanted = None
        before = self._canary
        if wanted is None or wanted["name"] == self._served.name:
            self._canary = None
        else:
            same = before is not None and before[0].name == wanted["name"]
            self._canary = (before[0] if before and same else self._open(wanted["name"])), float(wanted["share"])
        if before != self._canary:
            said = (
                f"{self._canary[1]:.0%} of the users get {self._canary[0].name}"
                if self._canary
                else "nobody gets another bundle"
            )
            log.info("canary: %s", said)

    def _current(self) -> str:
        return str(json.loads((self._folder / "CURRENT").read_text())["name"])

    def _open(self, name: str) -> Served:
        folder = self._folder / "bundles" / name
        checked(folder)
        return Served(name, ServingBundle(folder))


def _digest(name: str) -> str:
    """The part of a bundle's name that says what is in it."""
    return name.rpartition("-")[2]


def _place(key: str, name: str) -> float:
    """A number from 0 up to 1 that looks random, and that follows from the key and the name."""
    digest = hashlib.blake2b(f"{name}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
