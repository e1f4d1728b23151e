"""What says whether an item can be had: flags, words, and stock as a number of any type."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from tests.jobs.landing.sources import catalogue, csv_source, landing, refusal, rows, table_source

WRITTEN = {  # as text in a CSV file
    "0.0": False, "0": False, "0.00": False, "-3": False, "-0.5": False, "0e0": False,
    "12": True, "12.0": True, "0.5": True, "1.0": True, " 7 ": True, "1e2": True,
    "true": True, "No": False, "f": False, "Y": True, "": None, "nan": None, "perhaps": None,
    "in stock": True, "Out_of_Stock": False, " https://schema.org/InStock": True, "sold-out": False,
}  # fmt: skip


def with_stock(folder: Path, values: list[str]) -> Path:
    items = catalogue().astype({"title": str})
    items["available"] = [*values, *[""] * (len(items) - len(values))]
    return csv_source(folder, items=items)


def stock(settings, folder: Path, count: int) -> list[bool | None]:
    return [row["available"] for row in rows(landing(settings, folder).tables["items"])[:count]]


def test_csv(settings, tmp_path: Path) -> None:
    folder = with_stock(tmp_path, list(WRITTEN))
    assert stock(settings, folder, len(WRITTEN)) == list(WRITTEN.values())
    (part,) = landing(settings, folder).tables["items"].parts
    assert "one value of available cannot be read: 'perhaps'. It counts as missing." in part.told


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ([0.0, 12.0, None, -1, 0.5], [False, True, None, False, True]),
        ([True, False, None, 1, 0], [True, False, None, True, False]),
        (["0.0", "12.0", 3, True, -2.0], [False, True, True, True, False]),
    ],
)
def test_json(settings, tmp_path: Path, given: list, kept: list) -> None:
    folder = csv_source(tmp_path)
    (folder / "items.csv").unlink()
    lines = [json.dumps({"item_id": 100 + row, "available": value}) for row, value in enumerate(given)]
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n")
    assert stock(settings, folder, len(given)) == kept


@pytest.mark.parametrize(
    "values",
    [
        pa.array([0, 12, None, -1], pa.int32()),
        pa.array([0.0, 12.0, None, -1.5], pa.float64()),
        pa.array([Decimal("0.00"), Decimal("12.00"), None, Decimal("-1.00")], pa.decimal128(9, 2)),
        pa.array(["0.0", "12.0", None, "-1"]),
        pa.array([0.0, 12.0, float("nan"), -1.5], pa.float32()),
    ],
)
def test_parquet(settings, tmp_path: Path, values: pa.Array) -> None:
    items = pa.table({"item_id": [1, 2, 3, 4], "available": values})
    assert stock(settings, table_source(tmp_path, items=items), 4) == [False, True, None, False]


@pytest.mark.parametrize("values", [pa.array([[1], [2]]), pa.array([0, 1], pa.timestamp("s")), pa.array([b"1", b"0"])])
def test_types_that_hold_no_stock(settings, tmp_path: Path, values: pa.Array) -> None:
    items = pa.table({"item_id": [1, 2], "available": values})
    if pa.types.is_binary(values.type):  # text that its writer calls bytes
        assert stock(settings, table_source(tmp_path, items=items), 2) == [True, False]
    else:
        assert "give true or false, or a number" in str(refusal(settings, table_source(tmp_path, items=items)))
