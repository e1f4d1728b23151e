"""Takes a user's id out of the files of a home folder besides the lake, and removes those that are only kept to save time.

Records and pages are written anew, whole or not at all. In logs the id is overwritten in its place, because a process may be
writing to them. Signed records are signed again. What holds no text is left alone.
"""

import gzip
import hashlib
import json
import mmap
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from jobs.base.places import place
from jobs.base.scratch import IN_HOME
from jobs.base.settings import PipelineSettings
from jobs.forget.databases import clean_database, is_database
from jobs.forget.parquet import Change, dropped, rewrite_file
from jobs.forget.record import Record
from jobs.forget.texts import UserText
from jobs.registry import decisions, gate_report
from jobs.registry.signing import reseal
from jobs.registry.versions import TRAINED

# The lake has its own rules, the source is its owner's to clean, and the others hold no user: keys, the record of the request,
# and the files of a database that is at work.
_LEFT_ALONE = ("lake", "source", "keys", "forgotten", "postgres", "models")
# Settings, not records of what was found.
_SETTINGS = frozenset({"settings.json", "source.json", "agreed.json", "agreed_settings.json", "home.json", "secrets.json"})
_LOGS = "logs"  # folder of Airflow's logs
_CARD = "MODEL_CARD.md"  # of a version's own files, the only one that can name a user: it quotes what gates found
_IN_MODEL = Path(TRAINED)
# What killed steps leave in the home; under the names with a star those of version 0.2 and before.
_SCRATCH = (IN_HOME, ".candidates-*", ".register-*", ".version-*", ".spark-checkpoints-*")
FOLDERS = "folders_removed"  # the kind under which a record counts what was kept to save time only
_PROBED = 8192  # bytes
_NO_TEXT = frozenset(
    {".safetensors", ".npy", ".png", ".jpg", ".pt2", ".arrow", ".ttf", ".woff", ".woff2", ".jsa", ".jar", ".zip", ".pid"}
)


def remove_caches(settings: PipelineSettings, dates: Collection[str], record: Record) -> None:
    """Remove what can be made again: the copy of the source, what killed steps left, and all that stands for the dates given.

    Args:
        settings: of the home.
        dates: dates that held the user. Their steps are not reused, their searches are not continued, and no training goes on.
        record: gets the number of folders.
    """
    home = settings.home
    found = [home / "landing", *(path for pattern in _SCRATCH for path in home.glob(pattern))]
    for date in dates:
        found += [home / "reuse" / date, *(home / "tuning" / date / name for name in ("checkpoints", "recalls"))]
    if dates:
        found.append(home / "checkpoints")  # their names do not say of which date they are
    for folder in found:
        if folder.exists():
            shutil.rmtree(folder)
            record.files(FOLDERS, 1)


def clean_files(settings: PipelineSettings, text: UserText, user_id: str, record: Record) -> list[str]:
    """Take the id out of all files of the home.

    Args:
        settings: of the home.
        text: recognises the id.
        user_id: the id.
        record: gets the number of files.

    Returns:
        Files in which the id still stands as a word, by their paths in the home.
    """
    cards = {path: card for path in _files(settings) if path.name == _CARD and (card := _changed_text(path, text)) is not None}
    digests = {hashlib.sha256(path.read_bytes()).hexdigest(): hashlib.sha256(card).hexdigest() for path, card in cards.items()}
    # Signed records first. They name the digests of cards, and a card that has changed could not be recognised any more.
    for path in _files(settings):
        if path.suffix == ".json" and path.parent.name == "gate_report":
            record.files("records_signed_again", _sign_again(settings, path, text, digests))
    for path, card in cards.items():
        _replace(path, card)
        record.files("texts", 1)
    left = []
    for path in _files(settings):
        if path.suffix == ".parquet":
            record.files("tables_outside_the_lake", _clean_table(path, user_id))
        elif is_database(path):
            record.files("rows_of_databases", clean_database(path, text))
        elif path.suffix == ".log" or (_LOGS in path.relative_to(settings.home).parts and path.suffix != ".gz"):
            record.files("logs", _overwrite(path, text))
        elif (changed := _changed_text(path, text)) is not None:
            _replace(path, changed)
            record.files("texts", 1)
        if text.distinctive and _still_names(path, text):
            left.append(path.relative_to(settings.home).as_posix())
    return left


def _files(settings: PipelineSettings) -> Iterator[Path]:
    """The home's files that may name a user; links are not followed."""
    for folder, folders, names in os.walk(settings.home):
        here = Path(folder)
        if here == settings.home:
            folders[:] = [name for name in folders if name not in _LEFT_ALONE]
        elif (here / "MLmodel").exists():  # a model of MLflow: its files are known by their digests
            folders[:], names = [], []
            if (card := here / _IN_MODEL / _CARD).is_file():
                yield card
        elif here == settings.serving_root:
            folders[:] = []  # bundles hold no user
        for name in sorted(names):
            path = here / name
            if path.is_file() and not path.is_symlink() and name not in _SETTINGS and path.suffix not in _NO_TEXT:
                yield path


def _changed_text(path: Path, text: UserText) -> bytes | None:
    """The content of a text file without the id; None if it is no text, or does not hold the id."""
    content = path.read_bytes()
    plain = gzip.decompress(content) if path.suffix == ".gz" else content
    if not text.might_be_in(plain) or b"\0" in plain[:_PROBED]:
        return None
    changed = (
        _without(plain, text, by_line=path.suffix == ".jsonl") if path.suffix in (".json", ".jsonl") else text.without(plain)
    )
    if changed == plain:
        return None
    return gzip.compress(changed, mtime=0) if path.suffix == ".gz" else changed


def _without(plain: bytes, text: UserText, *, by_line: bool) -> bytes:
    """JSON without the id; if it cannot be read as JSON, it is a text like others."""
    try:
        if by_line:
            return b"".join(_line(line, text) for line in plain.splitlines(keepends=True))
        values = json.loads(plain)
    except ValueError:
        return text.without(plain)
    cleaned = text.without_in(values)
    return plain if cleaned == values else (json.dumps(cleaned, indent=2) + "\n").encode()


def _line(line: bytes, text: UserText) -> bytes:
    values = json.loads(line)
    cleaned = text.without_in(values)
    return line if cleaned == values else (json.dumps(cleaned) + "\n").encode()


def _sign_again(settings: PipelineSettings, path: Path, text: UserText, digests: dict[str, str]) -> int:
    """Sign a record again without the id, and with the new digests of cards."""

    def change(content: dict[str, Any]) -> dict[str, Any]:
        return _other_digests(text.without_in(content), digests)

    changed = reseal(settings, (gate_report.KIND, decisions.KIND), path.read_bytes(), change)
    if changed is None:
        return 0
    _replace(path, changed.encode())
    return 1


def _other_digests(value: Any, digests: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: _other_digests(inner, digests) for name, inner in value.items()}
    if isinstance(value, list):
        return [_other_digests(inner, digests) for inner in value]
    return digests.get(value, value) if isinstance(value, str) else value


def _clean_table(path: Path, user_id: str) -> int:
    """Drop the rows of the user from a Parquet file that lies outside the lake."""
    change, source = Change("user_id", user_id, dropped), place(path)
    if not sum(change.rows_of(source)):
        return 0
    aside = _aside(path)
    rewrite_file(source, aside, change)
    aside.replace(path)
    return 1


def _overwrite(path: Path, text: UserText) -> int:
    """Overwrite the id in a log, in its place, with as many asterisks. Lines that are added meanwhile are not touched."""
    if not path.stat().st_size:
        return 0
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        if not text.might_be_in(content):
            return 0
        places = list(text.places(content))
        for start, end in places:
            content[start:end] = b"*" * (end - start)
        content.flush()
    return int(bool(places))


def _still_names(path: Path, text: UserText) -> bool:
    if not path.exists() or not path.stat().st_size or path.suffix == ".parquet":
        return False
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return text.might_be_in(content) and next(text.places(content), None) is not None


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all. It keeps its rights."""
    aside = _aside(path)
    aside.write_bytes(content)
    shutil.copymode(path, aside)
    aside.replace(path)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}-{uuid.uuid4().hex}")
