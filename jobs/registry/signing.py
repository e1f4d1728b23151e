"""Signs records. Whoever may write to MLflow can read and delete a signed record, but can neither change nor forge it.

The key is in the environment (`ESANS_GATE_KEY`, or `ESANS_GATE_KEY_FILE` with the path of a file that holds it), or else in
`<home>/keys/gate.key`. That file is made with the first signature, and only its owner can read it. If the key changes, no
earlier signature is valid.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jobs.base.errors import DataError
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings

_SHORTEST = 32  # characters of a key


def seal(settings: PipelineSettings, kind: str, content: dict[str, Any]) -> str:
    """A record as text with its signature: JSON with `content`, `key` (the name of the key, not the key) and `signature`.

    Args:
        settings: gives the home folder.
        kind: what the record is. A signature is valid for this kind only.
        content: JSON values.
    """
    key = _key(settings, make=True)
    sealed = {"content": content, "key": _name_of(key), "signature": _signature(key, kind, content)}
    return json.dumps(sealed, indent=2, sort_keys=True) + "\n"


def unseal(settings: PipelineSettings, kind: str, text: bytes, *, where: str, remedy: str) -> dict[str, Any]:
    """The content of a sealed record.

    Args:
        settings: as for `seal`.
        kind: the kind with which it must have been sealed.
        text: the record as it was found.
        where: names the record in an error.
        remedy: what to do if it is not genuine.

    Raises:
        DataError: it is no such record, it was changed, another key signed it, or there is no key.
    """
    try:
        sealed = json.loads(text)
        content, name, signature = sealed["content"], str(sealed["key"]), str(sealed["signature"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"is no signed {kind} ({type(error).__name__}).", file=where, remedy=remedy) from error
    key = _key(settings, make=False)
    if name != _name_of(key):
        raise DataError(f"the {kind} was signed with another key ({name[:16]!r}) than this home's.", file=where, remedy=remedy)
    if not hmac.compare_digest(signature.encode(), _signature(key, kind, content).encode()):
        raise DataError(f"the signature of the {kind} is wrong: it was changed after writing.", file=where, remedy=remedy)
    return dict(content)


def reseal(
    settings: PipelineSettings, kinds: Sequence[str], text: bytes, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> str | None:
    """A genuine record with another content, signed again; None if it is none of these kinds, not genuine, or has not changed.

    Args:
        settings: as for `seal`.
        kinds: kinds that it may have.
        text: the record as it was found.
        change: gives the other content.
    """
    for kind in kinds:
        try:
            content = unseal(settings, kind, text, where=kind, remedy="none")
        except DataError:
            continue
        changed = change(content)
        return None if changed == content else seal(settings, kind, changed)
    return None


def require_key(settings: PipelineSettings) -> None:
    """Raise `DataError` if there is no key, because then nothing can be checked."""
    _key(settings, make=False)


def _signature(key: bytes, kind: str, content: Any) -> str:
    plain = json.dumps([kind, content], sort_keys=True, separators=(",", ":"))
    return hmac.new(key, plain.encode(), hashlib.sha256).hexdigest()


def _name_of(key: bytes) -> str:
    return hmac.new(key, b"name", hashlib.sha256).hexdigest()[:16]


def _key(settings: PipelineSettings, *, make: bool) -> bytes:
    named = os.environ.get("ESANS_GATE_KEY_FILE")
    path = Path(named) if named else settings.home / "keys" / "gate.key"
    text = os.environ.get("ESANS_GATE_KEY", "")
    if not text:
        if make and not named:
            _make(path)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"the key that signs gate reports cannot be read ({error}).",
                file=path,
                remedy="put the key back, or judge the version again with a new one.",
            ) from error
    key = text.strip()
    if len(key) < _SHORTEST:
        raise DataError(
            f"the key that signs gate reports (or ESANS_GATE_KEY) has {len(key)} characters; at least {_SHORTEST} are needed.",
            file=path,
            remedy="use a random key, for example the output of `openssl rand -hex 32`.",
        )
    return key.encode()


def _make(path: Path) -> None:
    """Write a random key. The file is written completely or not at all, and is never replaced."""
    with alone_in(path.parent):
        path.parent.chmod(0o700)
        if path.exists():
            return
        draft = path.with_name(".gate.key-new")
        draft.unlink(missing_ok=True)
        draft.touch(0o600)
        with draft.open("w") as stream:
            stream.write(secrets.token_hex(32) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
