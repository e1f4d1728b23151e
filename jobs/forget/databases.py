"""Takes a user's id out of SQLite databases of a home: those of Airflow and MLflow when no other database was given to them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from jobs.forget.texts import UserText

_MAGIC = b"SQLite format 3\0"
_SECONDS = 60  # to wait for another process that writes
_RUNS, _UNFINISHED = "dag_run", "state in ('queued', 'running')"  # a run that has not ended still needs its conf


def is_database(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    with path.open("rb") as stream:
        return stream.read(len(_MAGIC)) == _MAGIC


def clean_database(path: Path, text: UserText) -> int:
    """Take the id out of all texts of a database, and out of pages that are free. Returns how many values were changed."""
    with closing(sqlite3.connect(path, timeout=_SECONDS, isolation_level=None)) as database:
        database.execute("pragma secure_delete = on")
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        changed = sum(_clean_table(database, table, text) for table in tables if not table.startswith("sqlite_"))
        database.execute("pragma wal_checkpoint(truncate)")
        if changed or text.might_be_in(path.read_bytes()):
            database.execute("vacuum")
            database.execute("pragma wal_checkpoint(truncate)")
    return changed


def _clean_table(database: sqlite3.Connection, table: str, text: UserText) -> int:
    name = _quoted(table)
    columns = [row[1] for row in database.execute(f"pragma table_info({name})")]
    spared = f" and not ({_UNFINISHED})" if table == _RUNS else ""
    changed = 0
    for column in map(_quoted, columns):
        query = f"select rowid, {column} from {name} where typeof({column}) = 'text'{spared}"  # noqa: S608 - quoted names
        quoting = ((row, value, text.without_text(value)) for row, value in database.execute(query) if _for_people(value))
        found = [(cleaned, row) for row, value, cleaned in quoting if cleaned != value]
        database.executemany(f"update {name} set {column} = ? where rowid = ?", found)  # noqa: S608
        changed += len(found)
    return changed


def _for_people(value: str) -> bool:
    """Whether a text may quote a user. A single word is a key, a state or a digest, which must stay as it is."""
    return any(mark in value for mark in " \n\t{[")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
