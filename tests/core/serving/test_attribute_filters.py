"""Filters over attributes against a loop over items."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from esans_core.serving.attributes import ItemAttributes

N = 60


def table() -> pa.Table:
    rng = np.random.default_rng(0)
    category = [None if row % 11 == 0 else str(rng.choice(["shoes", "hats", "socks"])) for row in range(N)]
    markets = [None if row % 7 == 0 else rng.choice(["DE", "AT", "FR", "IT"], row % 4).tolist() for row in range(N)]
    price = [None if row % 13 == 0 else float(rng.integers(1, 100)) for row in range(N)]
    columns = {"category": pa.array(category), "markets": pa.array(markets, pa.list_(pa.string())), "price": pa.array(price)}
    return pa.table(columns | {"empty": pa.nulls(N, pa.string()), "none": pa.nulls(N, pa.list_(pa.string()))})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> ItemAttributes:
    file = tmp_path_factory.mktemp("attributes") / "attributes.arrow"
    chunks = table()
    ItemAttributes.save(file, pa.concat_tables([chunks.slice(0, 17), chunks.slice(17)]))
    return ItemAttributes(file)


def passes(row: dict[str, Any], wanted: dict[str, Any]) -> bool:
    for name, value in wanted.items():
        here = row[name]
        if here is None:
            return False
        if isinstance(value, dict):
            fine = value.get("min", here) <= here <= value.get("max", here)
        else:
            fine = bool(set(value) & set(here if isinstance(here, list) else [here]))
        if not fine:
            return False
    return True


@pytest.mark.parametrize(
    "wanted",
    [
        {"category": ["shoes"]},
        {"category": ["shoes", "hats", "gloves"]},
        {"category": []},
        {"category": ["gloves"]},
        {"markets": ["DE"]},
        {"markets": ["DE", "IT"]},
        {"markets": ["US"]},
        {"price": {"min": 10, "max": 50}},
        {"price": {"min": 50.5}},
        {"price": {"max": 3}},
        {"price": {"min": 50, "max": 10}},
        {"category": ["hats"], "markets": ["AT", "FR"], "price": {"max": 70}},
        {"empty": ["shoes"]},
        {"none": ["DE"]},
    ],
)
def test_items_pass_as_in_a_loop(made: ItemAttributes, wanted: dict[str, Any]) -> None:
    expected = [passes(row, wanted) for row in table().to_pylist()]
    found = made.passing(wanted)
    assert found.dtype == bool and found.tolist() == expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"colour": ["red"]}, r"no attribute 'colour'; attributes: category \(text\), markets \(texts\), price \(number\)"),
        ({"category": "shoes"}, "category is a text and takes a list of texts"),
        ({"category": [3]}, "category is a text"),
        ({"markets": {"min": 3}}, "markets is a texts and takes a list of texts"),
        ({"price": [3]}, "price is a number and takes bounds"),
        ({"price": {}}, "price is a number"),
        ({"price": {"least": 3}}, "price is a number"),
        ({"price": {"min": "3"}}, "price is a number"),
        ({"price": {"min": True}}, "price is a number"),
        ({"price": {"min": float("nan")}}, "price is a number"),
        ({"price": {"min": None}}, "price is a number"),
        (["category"], "expected attributes with what they must be"),
    ],
)
def test_what_is_no_filter_is_refused(made: ItemAttributes, wanted: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made.passing(wanted)


def test_the_same_attributes_give_the_same_bytes_and_other_types_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        ItemAttributes.save(tmp_path / name, table())
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with pytest.raises(ValueError, match="vector: expected string"):
        ItemAttributes.save(tmp_path / "three", pa.table({"vector": pa.array([[1.0]], pa.list_(pa.float32()))}))
