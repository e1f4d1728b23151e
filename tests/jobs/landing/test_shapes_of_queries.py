"""The rows of a query: of any type that a database gives, none at all, or a refusal."""

import sqlite3
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from jobs.base.files import file_digest
from jobs.base.places import place
from jobs.landing.formats import queries
from tests.jobs.landing.sources import csv_source, events, landing, refusal, with_mapping

NOON = 1_769_601_600


def database(folder: Path, rows: list[tuple[Any, ...]]) -> Path:
    """A source whose log is the table `log` (a, b, c) of a database."""
    (csv_source(folder) / "interactions.csv").unlink()
    with sqlite3.connect(folder / "shop.db") as connection:
        connection.execute("create table log (a, b, c)")
        connection.executemany("insert into log values (?, ?, ?)", rows)
    connection.close()
    return folder


def query(folder: Path, text: str) -> Path:
    return with_mapping(folder, {"interactions": {"database": f"sqlite:///{folder}/shop.db", "query": text}})


def test_values_of_many_types_in_one_column(settings, tmp_path: Path) -> None:
    rows = [(1, "x", NOON), ("a", 2**62, "2026-01-28T12:00:00Z"), (None, "nan", None), (7, " ", float(NOON) + 0.5)]
    folder = query(database(tmp_path, rows), "select a as user_id, b as item_id, c as timestamp from log")
    assert events(settings, folder) == [("1", "x", NOON), ("a", str(2**62), NOON), (None, None, None), ("7", None, NOON)]


def test_integers_beyond_64_bits(settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = database(tmp_path, [("18446744073709551616", 3, NOON), (None, 3, NOON)])  # SQLite itself has no such integers
    made = queries._column
    monkeypatch.setattr(queries, "_column", lambda values: made([int(v) if isinstance(v, str) else v for v in values]))
    folder = query(folder, "select a as user_id, b as item_id, c as timestamp from log")
    assert events(settings, folder) == [(str(2**64), "3", NOON), (None, "3", NOON)]
    folder = query(folder, "select b as user_id, b as item_id, a as timestamp from log")
    assert [time for _, _, time in events(settings, folder)] == [None, None]
    (part,) = landing(settings, folder).tables["interactions"].parts
    assert part.told == ["one value of timestamp cannot be read: '18446744073709551616'. It counts as missing."]


def test_no_rows(settings, tmp_path: Path) -> None:
    folder = query(database(tmp_path, []), "select a as user_id, b as item_id, c as timestamp from log")
    assert refusal(settings, folder).problem == "the table is empty."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("select a as user_id, b as item_id from log", "a column is missing; columns found: user_id, item_id"),
        ("select a as user_id, b as item_id, c as timestamp, a as item_id from log", "two columns of this name"),
        ("select nothing from log", "does not answer the query"),
        ("from log where", "does not answer the query"),
        ("delete from log", "does not answer the query"),
    ],
)
def test_queries_that_cannot_be_the_log(settings, tmp_path: Path, text: str, says: str) -> None:
    folder = query(database(tmp_path, [(1, 2, NOON)]), text)
    assert says in refusal(settings, folder).problem
    with sqlite3.connect(folder / "shop.db") as connection:
        assert connection.execute("select count(*) from log").fetchone() == (1,)
    connection.close()


def test_a_database_that_is_not_there_or_has_its_password_in_the_file(settings, tmp_path: Path) -> None:
    folder = database(tmp_path, [])
    for url, says in (
        ("postgresql://esans@127.0.0.1:9/shop", "does not answer the query"),
        ("postgresql://esans:secret@127.0.0.1:9/shop", "the URL holds a password"),
        ("nosuchthing://x", "does not answer the query"),
        ("no url", "write it like postgresql://"),
    ):
        with_mapping(folder, {"interactions": {"database": url, "query": "select 1"}})
        error = refusal(settings, folder)
        assert says in error.problem and "secret" not in str(error)


def test_the_rows_of_an_earlier_day_stay_for_the_run_that_names_them(settings, tmp_path: Path) -> None:
    folder = query(database(tmp_path, [(1, 2, NOON)]), "select a as user_id, b as item_id, c as timestamp from log")
    (first,) = landing(settings, folder).tables["interactions"].parts
    (same,) = landing(settings, folder).tables["interactions"].parts
    with sqlite3.connect(folder / "shop.db") as connection:
        connection.execute("insert into log values (3, 4, ?)", (NOON + 86_400,))
    connection.close()
    (later,) = landing(settings, folder).tables["interactions"].parts
    assert first == same and later.uri != first.uri
    assert [file_digest(place(part.uri)) for part in (first, later)] == [first.digest, later.digest]
    assert [pq.read_table(place(part.uri)).num_rows for part in (first, later)] == [1, 2]
    assert len(list((settings.home / "landing" / "interactions").iterdir())) == 2
