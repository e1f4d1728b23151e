"""Delta and Iceberg tables: only the rows of one state are read, and plain files of such a table never are."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError

from tests.jobs.landing.sources import EXPECTED, landing, log, refusal, rows, table_source, with_mapping

LOG = pa.Table.from_pandas(log(), preserve_index=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source without a log."""
    (table_source(tmp_path / "source") / "interactions.parquet").unlink()
    return tmp_path / "source"


def events(settings, folder: Path) -> list[tuple[Any, Any, Any]]:
    found = rows(landing(settings, folder).tables["interactions"])
    return sorted((row["user_id"], row["item_id"], row["timestamp"]) for row in found)


def without(user: str) -> list[tuple[str, str, int]]:
    return sorted(row for row in EXPECTED if row[0] != user)


def test_removed_files_checkpoints_and_partitions_of_delta(settings, folder: Path) -> None:
    path = folder / "interactions"
    write_deltalake(path, LOG, partition_by=["user_id"])
    table = DeltaTable(path)
    table.delete("user_id = 3")
    assert events(settings, folder) == without("3")
    table.create_checkpoint()
    (path / "_delta_log" / "00000000000000000000.json").unlink()
    assert events(settings, folder) == without("3"), "from the checkpoint"
    table.optimize.compact()
    assert events(settings, folder) == without("3")
    write_deltalake(path, LOG.slice(0, 1), mode="append")
    assert len(events(settings, folder)) == len(without("3")) + 1


def test_an_older_version_of_delta(settings, folder: Path) -> None:
    write_deltalake(folder / "interactions.delta", LOG)
    DeltaTable(folder / "interactions.delta").delete("user_id = 3")
    with_mapping(folder, {"interactions": {"version": 0}})
    assert events(settings, folder) == sorted(EXPECTED)
    with_mapping(folder, {"interactions": {"version": 7}})
    error = refusal(settings, folder)
    assert error.file == folder / "interactions.delta" and "version" in error.remedy
    with_mapping(folder, {"interactions": {"format": "parquet"}})
    assert "its plain files hold removed rows too" in refusal(settings, folder).problem


def test_delta_as_of_a_time(settings, folder: Path) -> None:
    path = folder / "interactions.delta"
    write_deltalake(path, LOG)
    DeltaTable(path).delete("user_id = 3")
    for number, moment in enumerate((1_769_601_600_000, 1_769_688_000_000)):  # noon of 2026-01-28 and of the next day
        entry = path / "_delta_log" / f"{number:020}.json"
        os.utime(entry, (moment / 1000, moment / 1000))  # by which Delta tells when a version was made
        lines = [json.loads(line) for line in entry.read_text().splitlines()]
        for line in lines:
            line.get("commitInfo", {})["timestamp"] = moment
        entry.write_text("\n".join(map(json.dumps, lines)))
        os.utime(entry, (moment / 1000, moment / 1000))
    for as_of, version, expected in (
        ("2026-01-28T18:00:00Z", 0, sorted(EXPECTED)),
        ("2026-01-28 18:00:00", 0, sorted(EXPECTED)),  # UTC
        ("2026-01-29T18:00:00Z", 1, without("3")),
    ):
        with_mapping(folder, {"interactions": {"as_of": as_of}})
        assert events(settings, folder) == expected, as_of
        (part,) = landing(settings, folder).tables["interactions"].parts
        assert part.name == f"interactions.delta (Delta version {version})", "it is recorded which state was read"


def with_protocol(folder: Path, reader: dict[str, Any], change: Callable[[dict], None] | None = None) -> None:
    """A Delta table whose protocol asks its readers for a feature."""
    write_deltalake(folder / "interactions", LOG)
    path = folder / "interactions" / "_delta_log" / "00000000000000000000.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        if "protocol" in line:
            line["protocol"] = {"minWriterVersion": 7, "writerFeatures": reader["readerFeatures"]} | reader
        if change is not None:
            change(line)
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    for crc in path.parent.glob("*.crc"):
        crc.unlink()


def test_deletion_vectors_are_never_ignored(settings, folder: Path) -> None:
    def add_vector(line: dict) -> None:
        if "add" in line:
            line["add"]["deletionVector"] = {
                "storageType": "u",
                "pathOrInlineDv": "ab^-aqEH.-t@S}K{vb[*k^",
                "offset": 4,
                "sizeInBytes": 40,
                "cardinality": 6,
            }

    with_protocol(folder, {"minReaderVersion": 3, "readerFeatures": ["deletionVectors"]}, add_vector)
    error = refusal(settings, folder)
    assert error.file == folder / "interactions" and "cannot be read through its log" in error.problem


def test_columns_under_other_names_are_never_taken_for_missing(settings, folder: Path) -> None:
    def rename(line: dict) -> None:
        if "metaData" in line:
            schema = json.loads(line["metaData"]["schemaString"])
            for number, field in enumerate(schema["fields"], 1):
                field["metadata"] = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": field["name"]}
                field["name"] = {"user_id": "customer"}.get(field["name"], field["name"])
            line["metaData"]["schemaString"] = json.dumps(schema)
            line["metaData"]["configuration"] = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3"}

    with_protocol(folder, {"minReaderVersion": 3, "readerFeatures": ["columnMapping"]}, rename)
    with_mapping(folder, {"interactions": {"columns": {"user_id": "customer"}}})
    try:
        supported = DeltaTable(folder / "interactions").to_pyarrow_dataset() is not None
    except DeltaError:
        supported = False
    if supported:
        assert events(settings, folder) == sorted(EXPECTED)
    else:
        assert "cannot be read through its log" in refusal(settings, folder).problem


def test_broken_logs(settings, folder: Path) -> None:
    (folder / "interactions" / "_delta_log").mkdir(parents=True)
    pq.write_table(LOG, folder / "interactions" / "part-0.parquet")
    assert "cannot be read through its log" in refusal(settings, folder).problem
    shutil.rmtree(folder / "interactions" / "_delta_log")
    (folder / "interactions" / ".hoodie").mkdir()
    assert "a Hudi table" in refusal(settings, folder).problem
    shutil.rmtree(folder / "interactions" / ".hoodie")
    (folder / "interactions" / "metadata").mkdir()
    (folder / "interactions" / "metadata" / "v1.metadata.json").write_text("{}")
    assert "cannot be read through its metadata" in refusal(settings, folder).problem


def test_a_data_file_of_delta_that_has_gone(settings, folder: Path) -> None:
    write_deltalake(folder / "interactions", LOG)
    next((folder / "interactions").glob("*.parquet")).unlink()
    assert "cannot be read as Delta" in refusal(settings, folder).problem


def test_plain_files_within_a_table_with_a_log(settings, folder: Path) -> None:
    write_deltalake(folder / "lake" / "events", LOG, partition_by=["user_id"])
    for source in ("lake", "lake/events/user_id=3", next((folder / "lake" / "events").glob("*/*.parquet"))):
        inner = str(source) if isinstance(source, str) else str(source.relative_to(folder))
        with_mapping(folder, {"interactions": {"source": inner}})
        assert "removed rows" in refusal(settings, folder).problem
    with_mapping(folder, {"interactions": {"source": "lake/events"}})
    assert events(settings, folder) == sorted(EXPECTED)


@pytest.fixture(params=["source", "a b", "ü#x"])
def iceberg(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Any]:
    """A source whose log is an Iceberg table, and the table."""
    from pyiceberg.catalog.sql import SqlCatalog

    folder = tmp_path / request.param
    (table_source(folder) / "interactions.parquet").unlink()
    catalog = SqlCatalog("tests", uri="sqlite://", warehouse=str(tmp_path))
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.log", schema=LOG.schema, location=str(folder / "interactions"))
    table.append(LOG)
    table.delete("user_id = 3")
    return folder, table


def test_iceberg_shows_no_removed_row(settings, iceberg: tuple[Path, Any]) -> None:
    folder, table = iceberg
    assert events(settings, folder) == without("3")
    first = table.snapshots()[0].snapshot_id
    with_mapping(folder, {"interactions": {"version": first}})
    assert events(settings, folder) == sorted(EXPECTED)
    with_mapping(folder, {"interactions": {"version": 5}})
    assert f"there are [{first}" in refusal(settings, folder).problem
    with_mapping(folder, {"interactions": {"source": "interactions/data"}})
    assert "removed rows" in refusal(settings, folder).problem


def test_a_copied_iceberg_table_does_not_read_its_old_place(settings, iceberg: tuple[Path, Any], tmp_path: Path) -> None:
    folder, _ = iceberg
    shutil.copytree(folder, tmp_path / "copy")
    error = refusal(settings, tmp_path / "copy")
    assert f"it lies in {folder}/interactions" in error.problem and "moved" in error.remedy
