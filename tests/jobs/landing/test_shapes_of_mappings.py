"""What `data.yaml` says is what is done: YAML makes nothing else of a value, and a rule without effect is no silent one."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tests.jobs.landing.sources import catalogue, csv_source, landing, log, refusal, rows, table_source, with_mapping

BOMB = "".join(f"x{row}: &x{row} [{', '.join([f'*x{row - 1}'] * 9) if row else 'lol'}]\n" for row in range(9))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("NO", "NO"), ("yes", "yes"), ("off", "off"), ("007", "007"), ("1:30", "1:30"), ("1.10", "1.10"), ("0x1F", "0x1F"),
        ("1_000", "1_000"), ("2026-01-28", "2026-01-28"), ("1e3", "1e3"), (".5", ".5"), ("true", "true"), ("true", "True"),
        ("'NO'", "NO"), ("5", "5"),
    ],
)  # fmt: skip
def test_a_value_stays_the_text_that_it_is(settings, tmp_path: Path, written: str, kept: str) -> None:
    items = catalogue().assign(shop=["somewhere"] * 30 + [kept] * 30)
    yaml = (
        f"interactions: {{constants: {{kind: {written}}}}}\nitems: {{where: {{shop: [{written}]}}}}\nkinds: {{{written}: {{}}}}"
    )
    found = landing(settings, with_mapping(csv_source(tmp_path, items=items), yaml))
    assert found.tables["items"].rows == 30
    assert {row["kind"] for row in rows(found.tables["interactions"])} == {written.strip("'")}


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("5", pa.array([5.0, None, 4.5] * 20)),
        ("5.0", pa.array([5, None, 4] * 20, pa.int8())),
        ("true", pa.array([True, None, False] * 20)),
        ("2026-01-28", pa.array([20_481, None, 20_480] * 20, pa.int32()).cast(pa.date32())),
        ("5", pa.array(["5", None, "5.0"] * 20)),
        ("1.50", pa.array([150, None, 151] * 20).cast(pa.decimal128(21, 0)).cast(pa.decimal128(21, 2))),
    ],
)
def test_a_wanted_value_meets_columns_of_any_type(settings, tmp_path: Path, written: str, values: pa.Array) -> None:
    if pa.types.is_decimal(values.type):
        values = pa.array([value and value / 100 for value in values.to_pylist()], values.type)
    items = pa.Table.from_pandas(catalogue(), preserve_index=False).append_column("which", values)
    folder = with_mapping(table_source(tmp_path, items=items), f"items: {{where: {{which: [{written}]}}}}")
    assert landing(settings, folder).tables["items"].rows == 20


def test_numbers_are_still_numbers_where_numbers_are_wanted(settings, tmp_path: Path) -> None:
    frame = log().assign(kind="buy", rating=4)
    yaml = "kinds: {buy: {weight: 8}}\nrating: {at_least: 3.5}\ninteractions: {defaults: {rating: 2}}"
    found = landing(settings, with_mapping(csv_source(tmp_path, frame), yaml))
    assert (found.mapping["kinds"]["buy"]["weight"], found.mapping["rating"]["at_least"]) == (8.0, 3.5)
    with_days = "interactions: {rows_in_order: yes, timestamp_origin: 2020-01-01, timestamp_unit: d}"
    first = rows(
        landing(settings, with_mapping(csv_source(tmp_path, log()[["user_id", "item_id"]]), with_days)).tables["interactions"]
    )
    assert first[0]["timestamp"] == 1_577_836_800 + 86_400 * first[0]["source_row"]


def test_names_under_which_nothing_stands_are_not_given(settings, tmp_path: Path) -> None:
    yaml = "interactions:\n  # source: events.csv\nitems:\n  columns:\n  #  title: name\nkinds:\nrepeats:\n"
    assert landing(settings, with_mapping(csv_source(tmp_path), yaml)).tables["items"].rows == len(catalogue())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- interactions\n- items\n", "the file holds a list"),
        ("just a word", "the file holds one value"),
        ("[" * 3_000 + "]" * 3_000, "nested too deeply"),
        ("rating: {at_least: nan}", "rating.at_least: Input should be a finite number (got 'nan')"),
        ("interactions: &x {columns: *x}", "interactions.0.columns.columns: Input should be a valid string"),
        ("interactions:\n\tsource: a.csv", "the file is not YAML"),
        ("interactions: {where: {item_id: [~]}}", "interactions.0.where.item_id.0"),
        (BOMB, "x0: there is no such setting"),
        (BOMB.replace("x8:", "repeats:"), "(got [["),
        ("rating: {at_least: 3}", "says under rating what values of it mean, but no event has one"),
        ("interactions: {timezone: Europe/Nowhere}", "interactions.0.timezone: there is no such zone"),
        ("interactions: {timezone: CET+1}", "interactions.0.timezone: there is no such zone"),
        ("items: {source: 'https://example.com/items.csv'}", "within the folder of the source, and not https://example.com"),
        ("items: {version: 3}", "data.yaml gives version, which means nothing for csv"),
        ("interactions: {as_of: 2026-01-28}", "data.yaml gives as_of, which means nothing for csv"),
        ("item: {source: a.csv}", "item: there is no such setting (the nearest is items)"),
        ("items: {column: {title: name}}", "items.column: there is no such setting (the nearest is columns)"),
        ("kinds: {view: {weights: 3}}", "kinds.view.weights: there is no such setting (the nearest is weight)"),
        ("kinds: [view, buy]", "kinds: expected names with what they mean, such as {name: value} (got ['view', 'buy'])"),
        ("items: products.csv", "items: expected names with what they mean, such as {name: value} (got 'products.csv')"),
        ("kinds: {view: targets}", "kinds.view.role: Input should be 'target'"),
        ("kinds: {view: 0}", "kinds.view.weight: Input should be greater than 0"),
        ("kinds: {view: {role: history}}", "says under kinds what values of it mean, but no event has one"),
    ],
)
def test_what_is_no_mapping_is_refused_in_one_sentence(settings, tmp_path: Path, text: str, says: str) -> None:
    error = refusal(settings, with_mapping(csv_source(tmp_path), text))
    assert says in error.problem and len(error.problem) < 1_000


def test_ratings_that_cannot_be_read_are_no_ratings(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path, log().assign(rating="4,5"))
    error = refusal(settings, with_mapping(folder, "rating: {at_least: 3.5}"))
    assert "560 values of rating cannot be read, such as '4,5'" in error.problem and error.column == "rating"


def test_a_column_that_is_nearly_named_is_named(settings, tmp_path: Path) -> None:
    folder = csv_source(tmp_path, pd.DataFrame(log()).rename(columns={"user_id": "customer_id"}))
    assert (
        "Is customer_id meant?"
        in refusal(settings, with_mapping(folder, "interactions: {columns: {user_id: custmer_id}}")).remedy
    )


@pytest.mark.parametrize("given", ["names: [a, b]", "delimiter: ';'", "encoding: latin-1"])
def test_what_only_texts_have_is_not_said_of_parquet(settings, tmp_path: Path, given: str) -> None:
    error = refusal(settings, with_mapping(table_source(tmp_path), f"items: {{{given}}}"))
    assert f"data.yaml gives {given.split(':')[0]}, which means nothing for parquet" in error.problem


def test_a_number_is_a_weight_a_word_a_role_and_one_value_a_list(settings, tmp_path: Path) -> None:
    frame = log().assign(kind=["view", "buy", "hide", "other"] * 140)
    yaml = "kinds: {view: 1, buy: 8.5, hide: negative}\ninteractions: {where: {item_id: 100}}"
    found = landing(settings, with_mapping(csv_source(tmp_path, frame), yaml))
    kinds = found.mapping["kinds"]
    assert (kinds["view"]["weight"], kinds["buy"]["weight"], kinds["hide"]["weight"]) == (1.0, 8.5, 1.0)
    assert [kinds[kind]["role"] for kind in ("view", "buy", "hide")] == ["target", "target", "negative"]
    assert found.tables["interactions"].rows == (frame["item_id"] == 100).sum()


@pytest.mark.parametrize("separator", ["|", ";"])
def test_a_list_in_a_csv_file_is_exploded(settings, tmp_path: Path, separator: str) -> None:
    frame = pd.DataFrame(
        {
            "user_id": ["a", "b", "c", "d"],
            "basket": [separator.join(["100", " 101"]), "102", "", '["103", "104"]'],
            "timestamp": [1_769_601_600] * 4,
        }
    )
    mapping = {"columns": {"item_id": "basket"}, "explode": "basket", "list_separator": separator}
    table = landing(settings, with_mapping(csv_source(tmp_path, frame), {"interactions": mapping})).tables["interactions"]
    assert [(row["user_id"], row["item_id"]) for row in rows(table)] == [
        *[("a", "100"), ("a", "101"), ("b", "102"), ("d", "103"), ("d", "104")]
    ]
    (part,) = table.parts
    assert (part.rows_in, part.left_out) == (5, {"empty_list": 1})
    assert [row["source_row"] for row in rows(table)][0] == 2 and "one row has an empty list" in " ".join(part.told)
