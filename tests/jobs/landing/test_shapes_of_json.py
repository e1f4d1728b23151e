"""JSON in every shape: objects in objects, lists, arrays of objects, and what is broken."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.landing.sources import csv_source, events, landing, refusal, rows, with_mapping

NOON = 1_769_601_600


def json_source(folder: Path, *lines: Any, name: str = "interactions.jsonl") -> Path:
    """A folder with a log of JSON lines: values, or texts as they stand."""
    csv_source(folder)
    for old in folder.glob("interactions.*"):
        old.unlink()
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / name).write_bytes("\n".join(texts).encode("utf-8", "surrogatepass"))
    return folder


def event(user: Any = "a", item: Any = 1, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "timestamp": NOON} | more


def test_blank_lines_and_missing_fields(settings, tmp_path: Path) -> None:
    folder = json_source(tmp_path, "", event(), " ", {"item_id": 2, "timestamp": NOON}, event(None), "")
    assert events(settings, folder) == [("a", "1", NOON), (None, "2", NOON), (None, "1", NOON)]
    assert [row["source_row"] for row in rows(landing(settings, folder).tables["interactions"])] == [2, 4, 5]


@pytest.mark.parametrize("indent", [None, 2])
def test_one_array(settings, tmp_path: Path, indent: int | None) -> None:
    folder = json_source(tmp_path, json.dumps([event(), event("b")], indent=indent), name="interactions.json")
    assert events(settings, folder) == [("a", "1", NOON), ("b", "1", NOON)]
    cut = json_source(tmp_path, json.dumps([event(), event("b")], indent=indent)[:-20], name="interactions.json")
    assert "is not JSON" in refusal(settings, cut).problem
    assert "element 2 holds str" in refusal(settings, json_source(tmp_path, [event(), "x"])).problem


def test_an_empty_array_and_an_empty_file(settings, tmp_path: Path) -> None:
    for content in ("[]", "", "\n \n"):
        assert refusal(settings, json_source(tmp_path, content)).problem == "the table is empty."


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"user_id": "a", "item_id": 1, "times', "line 3 is not JSON"),
        ("[1, 2]", "line 3 holds list, not an object"),
        ("7", "line 3 holds int, not an object"),
        ('{"user_id": "a", "user_id": "b"}', "line 3 names the field 'user_id' twice"),
        ('{"user_id": {"x": 1, "x": 2}}', "line 3 names the field 'x' twice"),
        ("{" + '"a": {' * 100_000, "line 3 is not JSON"),
        ("[" * 100_000, "line 3 is not JSON"),
        ('{"user_id": "a", "item_id": ' + "9" * 5_000 + "}", "line 3 is not JSON"),
        ('{"user_id": "\\ud800", "item_id": 1, "timestamp": 1}', "row 3 is not UTF-8"),
        ('{"user_id": true, "item_id": 1, "timestamp": 1}', "row 3 has type true or false"),
        ('{"user_id": 1.5, "item_id": 1, "timestamp": 1}', "row 3 has type number (1.5)"),
        ('{"user_id": 1e300, "item_id": 1, "timestamp": 1}', "row 3 has type number (1e+300)"),
        ('{"user_id": ["a"], "item_id": 1, "timestamp": 1}', "row 3 has type list"),
        ('{"user_id": {"$oid": "a"}, "item_id": 1, "timestamp": 1}', "row 3 has type object"),
    ],
)
def test_a_broken_line(settings, tmp_path: Path, line: str, says: str) -> None:
    error = refusal(settings, json_source(tmp_path, event(), event(), line, event()))
    assert says in error.problem and error.rows == ("3",)
    assert error.file == tmp_path / "interactions.jsonl"


def test_numbers_of_all_sizes_as_ids(settings, tmp_path: Path) -> None:
    given = [1, 1.0, "1", 2**63, 2**70, -5, 9007199254740993, "1.0", "", " ", "nan", None]
    folder = json_source(tmp_path, *(event(value) for value in given), '{"user_id": NaN, "item_id": 1, "timestamp": 1}')
    expected = ["1", "1", "1", str(2**63), str(2**70), "-5", "9007199254740993", "1.0", None, None, None, None, None]
    assert [user for user, _, _ in events(settings, folder)] == expected


def test_an_id_is_one_whatever_stands_near_it(settings, tmp_path: Path) -> None:
    many = [event(7.0)] * 50_000 + [event("x"), event(7.0), event(7)]
    users = {user for user, _, _ in events(settings, json_source(tmp_path, *many))}
    assert users == {"7", "x"}


def test_times_and_texts_of_mixed_kinds(settings, tmp_path: Path) -> None:
    given = [NOON, float(NOON) + 0.5, str(NOON), "2026-01-28T12:00:00Z", True, {"$date": 1}, None]
    folder = json_source(tmp_path, *(event() | {"timestamp": value} for value in given))
    assert [time for _, _, time in events(settings, folder)] == [NOON] * 4 + [None] * 3
    titles = ["a", 5, ["b", ["c", None]], True, None]
    text = "\n".join(json.dumps({"item_id": row, "title": title}) for row, title in enumerate(titles))
    (folder / "items.csv").unlink()
    (folder / "items.jsonl").write_text(text)
    assert [row["title"] for row in rows(landing(settings, folder).tables["items"])] == ["a", "5", "b c", "true", None]


def test_objects_in_objects(settings, tmp_path: Path) -> None:
    lines = [
        {"user": {"id": {"$oid": "a"}}, "ts": {"$date": "2026-01-28T12:00:00Z"}, "item_id": 1},
        {"item_id": 2, "user": None},
    ]
    mapping = "interactions: {columns: {user_id: user.id.$oid, timestamp: ts.$date}}\n"
    folder = with_mapping(json_source(tmp_path, *lines), mapping)
    assert events(settings, folder) == [("a", "1", NOON), (None, "2", None)]
    with_mapping(folder, mapping.replace("user.id.$oid", "user.id.oid"))
    told = landing(settings, folder).tables["interactions"].parts[0].told
    assert "the column user.id.oid, which data.yaml takes for user_id, holds no value." in told


def test_a_list_gives_a_row_for_each_element(settings, tmp_path: Path) -> None:
    order = {"customer": "a", "at": NOON, "cart": {"lines": [{"sku": 1, "qty": 2}, {"sku": 2, "qty": 0}]}}
    empty, none = order | {"cart": {"lines": []}}, order | {"cart": None}
    mapping = (
        "interactions: {explode: cart.lines, columns: {user_id: customer, timestamp: at, item_id: cart.lines.sku}, "
        "where: {cart.lines.qty: [2]}}\n"
    )
    folder = with_mapping(json_source(tmp_path, order, empty, none), mapping)
    assert events(settings, folder) == [("a", "1", NOON)]
    (part,) = landing(settings, folder).tables["interactions"].parts
    assert (part.rows_in, part.rows, part.left_out) == (2, 1, {"empty_list": 2, "where": 1})
    assert "2 rows have an empty list where one is exploded; they give no row." in part.told
    error = refusal(settings, json_source(tmp_path, order, order | {"cart": {"lines": {"sku": 1}}}))
    assert error.rows == ("2",) and "holds dict where data.yaml explodes a list" in error.problem


def test_packed_and_in_other_encodings(settings, tmp_path: Path) -> None:
    folder = json_source(tmp_path, event("ä"), event("ö"))
    text = (folder / "interactions.jsonl").read_text()
    for name, content in (
        ("interactions.jsonl", text.encode("utf-16")),
        ("interactions.jsonl", text.encode("utf-8-sig")),
        ("interactions.ndjson.gz", gzip.compress(text.encode())),
    ):
        (json_source(folder) / "interactions.jsonl").unlink()
        (folder / name).write_bytes(content)
        assert [user for user, _, _ in events(settings, folder)] == ["ä", "ö"]
    (folder / "interactions.ndjson.gz").unlink()
    (folder / "interactions.jsonl").write_bytes(json.dumps(event("ä"), ensure_ascii=False).encode("latin-1"))
    assert "line 1 is not UTF-8" in refusal(settings, folder).problem


def test_a_required_field_that_no_object_has(settings, tmp_path: Path) -> None:
    error = refusal(settings, json_source(tmp_path, {"userId": "a", "item_id": 1, "timestamp": NOON}))
    assert error.column == "user_id" and "{user_id: userId}" in error.remedy


def test_lines_as_python_prints_them(settings, tmp_path: Path) -> None:
    folder = json_source(tmp_path, repr(event("it's", flag=True, none=None)), repr(event(2**70)).replace("{'", "{u'", 1))
    assert events(settings, folder) == [("it's", "1", NOON), (str(2**70), "1", NOON)]
    for line in ("{'user_id': 'a', 'item_id': 1, 'times", "{'user_id': open('x')}", "{'a': 1, 'a': 2}", "{'a': " + "(" * 9_000):
        error = refusal(settings, json_source(tmp_path, repr(event()), line))
        assert error.rows == ("2",) and ("line 2 is not JSON" in error.problem or "twice" in error.problem)
