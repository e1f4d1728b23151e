"""Which users were forgotten: a keyed hash of each id, so that a source that still holds such a user does not bring them back.

`<home>/forgotten/users.json` holds the hashes (HMAC-SHA256), and `<home>/forgotten/key` the key, which only its owner can read.
Without the key nobody can find out from a hash whose it is.
"""

import hashlib
import hmac
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from jobs.base.errors import DataError
from jobs.base.files import write_json
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings


@dataclass(frozen=True)
class ForgottenUsers:
    """The users that a home has forgotten. The object can be sent to a worker.

    Attributes:
        key: of the hashes.
        hashes: one for each user.
    """

    key: bytes
    hashes: frozenset[str]

    @classmethod
    def of(cls, settings: PipelineSettings) -> "ForgottenUsers":
        """Those of a home.

        Raises:
            DataError: there are hashes, but the key is gone, so nobody could be recognised.
        """
        file = _file(settings)
        if not file.exists():
            return cls(b"", frozenset())
        key = _key_file(settings)
        if not key.exists():
            raise DataError(
                "the key is gone by which forgotten users are recognised in the source.",
                file=key,
                remedy="put the key back; or remove users.json beside it, and forget everybody again whom the source holds.",
            )
        return cls(_read_key(key), frozenset(json.loads(file.read_text())["hashes"]))

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def hold(self, user_id: str) -> bool:
        """Whether a user was forgotten."""
        return _hash(self.key, user_id) in self.hashes


def hash_of(settings: PipelineSettings, user_id: str) -> str:
    """The hash of a user's id. The key is made with the first one."""
    path = _key_file(settings)
    with alone_in(path.parent):
        path.parent.chmod(0o700)
        if not path.exists():
            draft = path.with_name(".key-new")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(secrets.token_hex(32) + "\n")
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(path)
    return _hash(_read_key(path), user_id)


def remember(settings: PipelineSettings, hashed: str) -> None:
    """Keep the hash of a user who is forgotten."""
    with alone_in(_file(settings).parent):
        known = ForgottenUsers.of(settings).hashes
        if hashed not in known:
            write_json(_file(settings), {"hashes": sorted({*known, hashed})})


def lend_forgotten(settings: PipelineSettings, other: PipelineSettings) -> None:
    """Let another home, which is there for a while only, know whom a home has forgotten."""
    if not _file(settings).exists():
        return
    _file(other).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in (_file, _key_file):
        if file(settings).exists():
            shutil.copy(file(settings), file(other))


def forgotten_digest(settings: PipelineSettings) -> dict[str, str]:
    """The digest of all hashes, as a further input of steps that leave forgotten users out; empty if there is none."""
    known = ForgottenUsers.of(settings).hashes
    return {"forgotten": hashlib.sha256("\n".join(sorted(known)).encode()).hexdigest()} if known else {}


def _hash(key: bytes, user_id: str) -> str:
    return hmac.new(key, user_id.encode(), hashlib.sha256).hexdigest()


def _read_key(path: Path) -> bytes:
    return bytes.fromhex(path.read_text().strip())


def _file(settings: PipelineSettings) -> Path:
    return settings.home / "forgotten" / "users.json"


def _key_file(settings: PipelineSettings) -> Path:
    return settings.home / "forgotten" / "key"
