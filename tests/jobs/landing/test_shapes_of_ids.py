"""Ids of every type: two ids never become one, and one never becomes two."""

import datetime as dt
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.jobs.landing.sources import landing, refusal, rows, table_source

UUIDS = [uuid.UUID(int=7), uuid.UUID(int=2**100)]


def ids(settings, folder: Path, column: pa.Array) -> list[Any]:
    """The ids of a catalogue whose id column is this one."""
    items = pa.table({"title": pa.array(["x"] * len(column)), "item_id": column})
    found = rows(landing(settings, table_source(folder, items=items)).tables["items"])
    return [None if row["item_id"] is None else str(row["item_id"]) for row in found]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pa.array([1, None, -5], pa.int8()), ["1", None, "-5"]),
        (pa.array([2**64 - 1, 0, None], pa.uint64()), ["18446744073709551615", "0", None]),
        (pa.array([1.0, None, 2.0**53 - 1], pa.float64()), ["1", None, "9007199254740991"]),
        (pa.array([1.0, np.nan, 2.0**24 - 1], pa.float32()), ["1", None, "16777215"]),
        (pa.array(np.array([1, 2047], "float16")), ["1", "2047"]),
        (pa.array([Decimal(10**30), None], pa.decimal128(38, 0)), ["1" + "0" * 30, None]),
        (pa.array([Decimal("12.00"), None], pa.decimal128(38, 2)), ["12", None]),
        (pa.array([Decimal(10) ** 60], pa.decimal256(76, 0)), ["1" + "0" * 60]),
        (pa.array(["007", " 7", "", "  ", None, "7.0"]), ["007", " 7", None, None, None, "7.0"]),
        (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
        (pa.array(["ä", None, "ä"]).dictionary_encode(), ["ä", None, "ä"]),
        (pa.array([b"\xc3\xa4", None, b"nan"], pa.binary()), ["ä", None, None]),
        (pa.array([b"a", b""], pa.large_binary()), ["a", None]),
        (pa.array([value.bytes for value in UUIDS], pa.uuid()), [str(value) for value in UUIDS]),
        (pa.array([1, 2, 1], pa.int64()).dictionary_encode(), ["1", "2", "1"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_ids_of_parquet(settings, tmp_path: Path, column: pa.Array, expected: list[str | None]) -> None:
    assert ids(settings, tmp_path, column) == expected


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (pa.array([2.0**53]), "double"),
        (pa.array([2.0**24], pa.float32()), "float"),
        (pa.array(np.array([2048], "float16")), "halffloat"),
        (pa.array([1.5]), "double"),
        (pa.array([np.inf]), "double"),
        (pa.array([Decimal("12.50")], pa.decimal128(38, 2)), "decimal128(38, 2)"),
        (pa.array([True]), "bool"),
        (pa.array([UUIDS[0].bytes], pa.binary(16)), "fixed_size_binary[16]"),
        (pa.array([dt.date(2026, 1, 28)]), "date32[day]"),
        (pa.array([["a"]]), "list<element: string>"),
        (pa.array([{"id": "a"}]), "struct<id: string>"),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_what_is_no_id(settings, tmp_path: Path, column: pa.Array, says: str) -> None:
    items = pa.table({"title": pa.array(["x"] * len(column)), "item_id": column})
    error = refusal(settings, table_source(tmp_path, items=items))
    assert error.problem == f"the column has type {says}, from which no id can be made."
    assert (error.file, error.column) == (tmp_path / "items.parquet", "item_id")


def test_bytes_that_are_no_text(settings, tmp_path: Path) -> None:
    items = pa.table({"item_id": pa.array([b"a", b"\xff\xfe"], pa.binary())})
    error = refusal(settings, table_source(tmp_path, items=items))
    assert error.rows == ("1",) and error.column == "item_id" and "not UTF-8" in error.problem


def test_two_columns_of_one_name_in_parquet(settings, tmp_path: Path) -> None:
    items = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["item_id", "item_id"])
    error = refusal(settings, table_source(tmp_path, items=items))
    assert error.column == "item_id" and "two columns of this name" in error.problem


def test_names_that_differ_by_case_alone_stay_apart(settings, tmp_path: Path) -> None:
    items = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["ITEM_ID", "item_id"])
    assert ids_of(settings, table_source(tmp_path, items=items)) == ["2"]


def ids_of(settings, folder: Path) -> list[str]:
    return [str(row["item_id"]) for row in rows(landing(settings, folder).tables["items"])]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (pa.array([["red", None, "cotton"], None, []]), ["red cotton", None, ""]),
        (pa.array([[["a", "b"], ["c"]]]), ["a b c"]),
        (pa.array([["a", "b"]], pa.list_(pa.string(), 2)), ["a b"]),
        (pa.array([12, None]), ["12", None]),
        (pa.array([b"a text"], pa.binary()), ["a text"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_texts_of_parquet(settings, tmp_path: Path, value: pa.Array, text: list[str | None]) -> None:
    items = pa.table({"item_id": pa.array(range(len(value))), "title": value})
    found = rows(landing(settings, table_source(tmp_path, items=items)).tables["items"])
    assert [row["title"] for row in found] == text


def test_a_text_of_objects(settings, tmp_path: Path) -> None:
    items = pa.table({"item_id": [1], "title": [{"en": "Red", "de": "Rot"}]})
    error = refusal(settings, table_source(tmp_path, items=items))
    assert error.column == "title" and "with a dot" in error.remedy
    (tmp_path / "data.yaml").write_text("items: {columns: {title: title.de}}\n")
    assert rows(landing(settings, tmp_path).tables["items"])[0]["title"] == "Rot"
    (tmp_path / "data.yaml").write_text("items: {columns: {title: title.fr}}\n")
    error = refusal(settings, tmp_path)
    assert error.column == "title.fr" and "columns.title" in error.remedy
