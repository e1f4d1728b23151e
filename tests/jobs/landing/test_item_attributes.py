"""Attributes of items: what `data.yaml` may say of them, and the lists that their columns may hold."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.base.settings import PipelineSettings
from jobs.landing.contract import Column
from jobs.landing.conversion import TimeRule, convert
from jobs.landing.land import land
from jobs.landing.mapping import DataMapping
from jobs.landing.python_values import WrongType
from tests.jobs import source_builder as build

TIMES = TimeRule("s")
MARKETS = [["DE", "AT"], ["FR"], [], None]


def converted(kind: Any, values: Any) -> list[Any]:
    return convert(Column("it", kind, False, ""), values, TIMES)[0].to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        pa.array(MARKETS),
        pa.array(MARKETS, pa.large_list(pa.string())),
        MARKETS,
        ["DE|AT", "FR", [None, " "], None],
        ['["DE", "AT"]', "['FR']", "[]", None],
        pa.array(["DE|AT", "FR", "[]", "nan"]),
        pa.array([["DE", None, "AT"], ["FR"], [None], None]),
    ],
)
def test_several_texts_come_in_many_forms(values: Any) -> None:
    assert converted("texts", values) == MARKETS


def test_numbers_and_single_values_become_texts() -> None:
    assert converted("texts", pa.array([[1, 20], [3]])) == [["1", "20"], ["3"]]
    assert converted("texts", pa.array([1, None])) == [["1"], None]
    assert converted("texts", [[True, 2], "a"]) == [["true", "2"], ["a"]]


VECTORS = [[0.5, -1.25], None, [3.0, 4.0]]


@pytest.mark.parametrize(
    "values",
    [
        pa.array(VECTORS),
        pa.array(VECTORS, pa.list_(pa.float32(), 2)),
        VECTORS,
        ["[0.5, -1.25]", None, "3 4"],
        pa.array(["0.5|-1.25", "[]", "(3;4)"]),
        [[0.5, -1.25], [1.0, None], [3, 4]],
        pa.array([[0.5, -1.25], [float("nan"), 1.0], [3.0, 4.0]]),
        pa.array([[0.5, -1.25], [float("inf")], [3.0, 4.0]]),
        ["[0.5, -1.25]", "no vector", "3 4"],
        pa.concat_arrays([pa.array([[9.0]]), pa.array(VECTORS)]).slice(1),
    ],
)
def test_vectors_come_in_many_forms_and_a_damaged_one_is_missing(values: Any) -> None:
    assert converted("embedding", values) == VECTORS


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("texts", pa.array([{"a": 1}])),
        ("texts", pa.array([[{"a": 1}]])),
        ("embedding", pa.array([1.5])),
        ("embedding", pa.array([[[1.0]]])),
    ],
)
def test_other_types_are_refused(kind: Any, values: pa.Array) -> None:
    with pytest.raises(WrongType):
        converted(kind, values)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"items": {"attributes": {"title": "text"}}}, "column of the contract"),
        ({"items": {"attributes": {"Available": "text"}}}, "column of the contract"),
        ({"items": {"attributes": {"a": "text", "A": "number"}}}, "there twice"),
        ({"items": {"attributes": {"price in EUR": "number"}}}, "no plain name"),
        ({"items": {"attributes": {"price": "money"}}}, "price"),
        ({"images": {"attributes": {"size": "number"}}}, "only items"),
        ({"items": {"columns": {"colour": "c"}}}, "colour is no column"),
    ],
)
def test_what_data_yaml_may_not_say(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataMapping.model_validate(mapping)


def landed_items(folder: Path, settings: PipelineSettings, yaml: str, table: pd.DataFrame) -> pd.DataFrame:
    build.write_source(folder, items=table)
    (folder / "data.yaml").write_text(yaml)
    part = land(place(folder), settings, settings.home / "landing").tables["items"].parts[0]
    return pq.read_table(part.uri.removeprefix("file://")).to_pandas()


def test_attributes_land_beside_the_columns_of_the_contract(settings: PipelineSettings, tmp_path: Path) -> None:
    count = build.NUM_ITEMS
    table = build.items().assign(
        **{
            "Product group": "shoes",
            "price": "12.5",
            "markets": [["DE"]] * (count - 1) + [None],
            "vector": [[0.5, 1.0]] * count,
        }
    )
    yaml = """
items:
  columns: {category: Product group}
  defaults: {markets: 'AT|CH'}
  attributes: {category: text, price: number, markets: texts, vector: embedding}
"""
    found = landed_items(tmp_path, settings, yaml, table)
    assert found["category"].unique().tolist() == ["shoes"] and found["price"].unique().tolist() == [12.5]
    assert found["markets"].map(list).tolist() == [["DE"]] * (count - 1) + [["AT", "CH"]]
    assert found["vector"].map(list).tolist() == [[0.5, 1.0]] * count
    with pytest.raises(DataError, match="column is missing") as caught:
        landed_items(tmp_path, settings, "items: {attributes: {colour: text}}", table)
    assert caught.value.column == "colour"


def test_a_landing_of_an_earlier_version_names_no_attributes() -> None:
    values = DataMapping().model_dump(mode="json")
    del values["items"]["attributes"]
    assert DataMapping.model_validate(json.loads(json.dumps(values))).items.attributes == {}


@pytest.mark.parametrize(
    ("yaml", "values"),
    [
        ("", [["a.png", "b.png"], ["c.png"]]),
        ("", ['["a.png", "b.png"]', "c.png"]),
        ("items: {list_separator: ';'}", ["a.png;b.png", "c.png"]),
        ("items: {columns: {image_paths: image_path}}", [["a.png", "b.png"], ["c.png"]]),
    ],
)
def test_several_paths_come_in_many_forms(settings: PipelineSettings, tmp_path: Path, yaml: str, values: list[Any]) -> None:
    name = "image_path" if "image_path}" in yaml else "image_paths"
    rows = landed_items(tmp_path / "source", settings, yaml, build.items(2).assign(**{name: values}))
    assert [list(row) for row in rows["image_paths"]] == [["a.png", "b.png"], ["c.png"]]


def test_a_list_of_several_paths_is_no_single_path(settings: PipelineSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="write image_paths: image_path into data.yaml, under columns"):
        landed_items(tmp_path / "source", settings, "", build.items(2).assign(image_path=[["a.png", "b.png"], ["c.png"]]))


@pytest.mark.parametrize(
    ("kind", "values"), [("number", ["15.00 USD", "3,5"]), ("number", ["15%", None]), ("embedding", [[1.0, None], []])]
)
def test_an_attribute_of_which_nothing_can_be_read_stops(
    settings: PipelineSettings, tmp_path: Path, kind: str, values: list
) -> None:
    items = build.items().assign(it=values * (build.NUM_ITEMS // 2))
    folder = build.write_source(tmp_path / "data", items=items)
    (folder / "data.yaml").write_text(f"items: {{attributes: {{it: {kind}}}}}")
    with pytest.raises(DataError, match=f"no value of this attribute can be read as {kind}. .*cannot be read") as caught:
        land(place(folder), settings, tmp_path / "cache")
    assert caught.value.column == "it" and "items.attributes" in caught.value.remedy


def test_an_attribute_without_values_is_told(settings: PipelineSettings, tmp_path: Path) -> None:
    folder = build.write_source(
        tmp_path / "data", items=build.items().assign(it=pd.Series([None] * build.NUM_ITEMS, dtype=object))
    )
    (folder / "data.yaml").write_text("items: {attributes: {it: text}}")
    (part,) = land(place(folder), settings, tmp_path / "cache").tables["items"].parts
    assert "the column it, which data.yaml takes for it, holds no value." in part.told
