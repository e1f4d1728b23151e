"""Random tables in random files: each is refused with a message, or lands row by row and value by value."""

import csv
import io
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from jobs.base.errors import DataError
from jobs.base.places import place
from jobs.base.settings import PipelineSettings
from jobs.landing.conversion import NULL_WORDS
from jobs.landing.land import land
from jobs.landing.records import LandedTable

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)

# Letters that files, quotes and delimiters take to be their own.
ID = st.text(st.sampled_from("aB7äß日😀 .-_/,;|\t\"'\\%{}[]\n\r"), min_size=1, max_size=6)
WORD = st.one_of(ID, st.sampled_from([*NULL_WORDS, "", " ", "007", "7", "7.0", "1e5", "true", "2026-01-28"]))
SECONDS = st.integers(0, 4_102_444_799)
ROW = st.tuples(st.one_of(st.none(), WORD), WORD, st.one_of(st.none(), SECONDS), st.one_of(st.none(), st.integers(-5, 5)))
ROWS = st.lists(ROW, min_size=1, max_size=12)


def as_id(value: Any) -> str | None:
    """What an id of a text file must become: a text as it is, or nothing for a word that means nothing."""
    return None if value is None or value in NULL_WORDS or not value.strip() else value


def lands(home: Path, folder: Path, content: dict[str, bytes | pa.Table], options: dict[str, Any]) -> LandedTable | None:
    """The log as it is landed, or None if it was refused; nothing else may happen."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "items.csv").write_text("item_id\n1\n")
    for name, whole in content.items():
        if isinstance(whole, bytes):
            (folder / name).write_bytes(whole)
        else:
            pq.write_table(whole, folder / name, **options)
    try:
        table = land(place(folder), PipelineSettings(home=home), home / "landing").tables["interactions"]
    except DataError as error:
        assert error.remedy and (error.file or error.column)
        event("refused")
        return None
    for part in table.parts:
        assert part.rows_in == part.rows + part.left_out.get("where", 0)
    event("landed")
    return table


def found(table: LandedTable) -> list[tuple[Any, ...]]:
    rows = [row for part in table.parts for row in pq.read_table(place(part.uri)).to_pylist()]
    return [tuple(row.get(name) for name in ("user_id", "item_id", "timestamp", "rating")) for row in rows]


@QUICK
@given(
    ROWS,
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.booleans(),
)
def test_csv(tmp_path: Path, rows: list[tuple], delimiter: str, end: str, encoding: str, quote_all: bool) -> None:
    buffer = io.StringIO()
    writer = csv.writer(
        buffer, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    )
    writer.writerow(["user_id", "item_id", "timestamp", "rating"])
    writer.writerows(rows)
    table = lands(tmp_path, tmp_path / "s", {"interactions.csv": buffer.getvalue().encode(encoding)}, {})
    if table is None:  # a quoted line break may look like a lost quote, and is refused then
        assert any(set(str(value)) & set("\n\r") for row in rows for value in row)
        return
    assert found(table) == [(as_id(user), as_id(item), time, rating) for user, item, time, rating in rows]


JSON_ID = st.one_of(st.none(), WORD, st.integers(-(2**70), 2**70), st.floats(), st.booleans())


@QUICK
@given(st.lists(st.tuples(JSON_ID, JSON_ID, st.one_of(SECONDS, SECONDS.map(str), st.none())), min_size=1, max_size=12))
def test_json(tmp_path: Path, rows: list[tuple]) -> None:
    lines = [json.dumps({"user_id": user, "item_id": item, "timestamp": time}) for user, item, time in rows]
    table = lands(tmp_path, tmp_path / "s", {"interactions.jsonl": "\n".join(lines).encode()}, {})
    ids = [value for row in rows for value in row[:2]]
    unusable = [
        value
        for value in ids
        if isinstance(value, bool)
        or (isinstance(value, float) and not math.isnan(value) and not (value.is_integer() and abs(value) < 2**53))
    ]
    assert (table is None) == bool(unusable)
    if table is not None:

        def expected(value: Any) -> str | None:
            if isinstance(value, float):
                return None if math.isnan(value) else str(int(value))
            return str(value) if isinstance(value, int) else as_id(value)

        assert found(table) == [
            (expected(user), expected(item), None if time is None else int(time), None) for user, item, time in rows
        ]


TYPES = [pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()]
TYPES += [pa.decimal128(30, 0), pa.decimal128(30, 4), pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
WRITERS = [
    {"compression": "brotli"},
    {"compression": "lz4", "data_page_version": "2.0"},
    {"compression": "zstd", "row_group_size": 3},
    {"use_dictionary": False},
    {"version": "1.0", "compression": "gzip"},
]


@QUICK
@given(
    st.lists(st.one_of(st.none(), st.integers(0, 100)), min_size=1, max_size=12),
    st.sampled_from(TYPES),
    st.sampled_from(TYPES),
    st.booleans(),
    st.sampled_from(WRITERS),
    st.sampled_from(["s", "ms", "us", "ns"]),
    st.sampled_from([None, "UTC", "Europe/Berlin"]),
)
def test_parquet(
    tmp_path: Path,
    numbers: list[int | None],
    user_type: pa.DataType,
    item_type: pa.DataType,
    dictionary: bool,
    options: dict[str, Any],
    unit: str,
    zone: str | None,
) -> None:
    users, items = (typed(numbers, kind) for kind in (user_type, item_type))
    times = pc.multiply(pa.array(numbers, pa.int64()), 86_399).cast(pa.timestamp("s", "UTC")).cast(pa.timestamp(unit, zone))
    written = pa.table(
        {
            "timestamp": times,
            "item_id": items.dictionary_encode() if dictionary and item_type != pa.float16() else items,
            "user_id": users,
        }
    )
    table = lands(tmp_path, tmp_path / "s", {"interactions.parquet": written}, options)
    assert table is not None
    rows = [(as_text(user), as_text(item)) for user, item, _, _ in found(table)]
    assert rows == [(None if number is None else str(number),) * 2 for number in numbers]
    missing = numbers.count(None)
    assert table.parts[0].missing.get("timestamp", 0) == missing and sum(table.days.values()) == len(numbers) - missing


def typed(numbers: list[int | None], kind: pa.DataType) -> pa.Array:
    whole = pa.array(numbers, pa.int64())
    if pa.types.is_decimal(kind):
        return pa.array([None if number is None else Decimal(number) for number in numbers], kind)
    if pa.types.is_float16(kind):
        return pa.array([None if number is None else np.float16(number) for number in numbers], kind)
    return whole.cast(pa.string()).cast(kind) if "string" in str(kind) or "binary" in str(kind) else whole.cast(kind)


def as_text(value: Any) -> str | None:
    return None if value is None else str(value)


@QUICK
@given(
    ROWS, st.sets(st.sampled_from(["7", "007", "", "true"]), min_size=1), st.sampled_from(["{user:.2}-{item}", "{time:0>12}"])
)
def test_mappings(tmp_path: Path, rows: list[tuple], wanted: set[str], template: str) -> None:
    lines = [json.dumps({"user": user, "item": item, "time": time}) for user, item, time, _ in rows]
    mapping = {
        "columns": {"user_id": "user", "timestamp": "time"},
        "templates": {"item_id": template},
        "where": {"item": sorted(wanted)},
        "defaults": {"user_id": "nobody"},
        "constants": {"kind": "view"},
    }
    content = {
        "interactions.json": "\n".join(lines).encode(),
        "data.yaml": json.dumps({"interactions": mapping}).encode(),
    }
    table = lands(tmp_path, tmp_path / "s", content, {})
    kept = [row for row in rows if row[1] in wanted]
    assert (table is None) == (not kept)
    if table is not None:
        expected = []
        for user, item, time, _ in kept:
            fields = {"user": user, "item": item, "time": None if time is None else str(time)}
            used = [name for name in fields if f"{{{name}" in template]
            text = None if any(fields[name] is None for name in used) else template.format_map(fields)
            expected.append((as_id(user) or "nobody", as_id(text), time, None))
        assert found(table) == expected
        assert table.parts[0].left_out.get("where", 0) == len(rows) - len(kept)


@QUICK
@given(st.binary(max_size=60), st.sampled_from(["csv", "json", "parquet", "csv.gz", "tsv"]), st.booleans())
def test_any_bytes(tmp_path: Path, content: bytes, suffix: str, after_header: bool) -> None:
    header = {"csv": b"user_id,item_id,timestamp\n", "tsv": b"user_id\titem_id\ttimestamp\n"}.get(suffix, b"")
    lands(tmp_path, tmp_path / "s", {f"interactions.{suffix}": (header if after_header else b"") + content}, {})


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("seed", [1, 2])
def test_every_row_of_a_random_log_is_accounted_for(settings, tmp_path: Path, seed: int) -> None:
    from jobs.source import ingest
    from tests.jobs import source_builder as build

    draw = np.random.default_rng(seed)
    log = build.interactions(num_users=20, num_days=14).astype({"timestamp": object})
    for column, odd in (
        ("user_id", ["nan", "", " ", "u03"]),
        ("item_id", ["gone", None, "i01"]),
        ("timestamp", ["x", -5, 2**40]),
    ):
        chosen = draw.choice(len(log), 12, replace=False)
        log.loc[chosen, column] = draw.choice(np.array(odd, object), 12)
    log = log.iloc[np.r_[0 : len(log), draw.integers(0, len(log), 30)]].assign(kind=draw.choice(["view", "buy"], len(log) + 30))
    folder = build.write_source(tmp_path / "source")
    (folder / "interactions.parquet").unlink()
    log.to_csv(folder / "interactions.csv", index=False)
    (folder / "data.yaml").write_text("interactions: {where: {kind: [view, buy]}}\nkinds: {view: {role: history}}\n")
    summary = ingest.run(build.tiny(settings, folder, ingest={"split": "window"}))
    counted = [*summary["events"].values(), *summary["not_used"].values(), *summary["rejected"]["interactions"].values()]
    assert sum(counted) == len(log)
    assert set(summary["rejected"]["interactions"]) == {"missing_id", "unknown_item", "unusable_timestamp", "future_timestamp"}
