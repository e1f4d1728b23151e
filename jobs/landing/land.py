"""Lands a source: brings each part of each table to the form of the contract, once.

A part that Spark can read as it is, with the contract's own columns, is only looked at. Any other is written anew as Parquet
below `<home>/landing`. Both leave a record there, under a key made of the part's stamp and its mapping, so that the next day
reads new and changed parts only.
"""

import hashlib
import json
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

from upath import UPath

from jobs.base.errors import DataError, doing
from jobs.base.files import write_json
from jobs.base.places import uri_of
from jobs.base.settings import PipelineSettings
from jobs.landing.contract import INPUT_TABLES, ITEMS, USERS, InputTable
from jobs.landing.finding import Part, find_table
from jobs.landing.mapping import DataMapping, read_mapping, with_attributes
from jobs.landing.part_reader import PartReader
from jobs.landing.records import LandedPart, LandedTable, Landing
from jobs.landing.table_mapping import TableMapping
from jobs.landing.times import TimeRule

RULES = 3  # raise it when the same input must be landed anew
_UNUSED_FOR = 2 * 86_400  # seconds after which a landed part that the source no longer has is removed: no run reads it any more


def land(folder: UPath, settings: PipelineSettings, cache: Path) -> Landing:
    """Land all tables of a source.

    Args:
        folder: of the source.
        settings: the unit of times, and the place of the mapping.
        cache: where landed parts and records are kept.

    Raises:
        DataError: a table or column is missing, a file cannot be read, or a column's values do not fit the contract.
    """
    mapping = read_mapping(folder, settings)
    tables, used = {}, set()
    for table in INPUT_TABLES:
        if table is USERS and not mapping.users.attributes:
            continue  # a table of this name may lie there for other reasons
        parts, left_out, places = [], [], []
        for of_table in mapping.of(table):
            found = find_table(folder, table, of_table)
            if found is None and table is USERS:
                raise DataError(
                    "data.yaml names attributes of users, but there is no table of users.",
                    file=folder,
                    remedy="bring it as users.parquet or users.csv, or name its file as users: {source: ...} in data.yaml.",
                )
            if found is None:
                continue
            if of_table.rows_in_order and len(found.parts) > 1:
                raise DataError(
                    f"the table has {len(found.parts)} files, so the numbers of their rows are no order of all events.",
                    file=found.place,
                    remedy="make one file of them, or give the log a column with times or with an order.",
                )
            places.append(str(found.place))
            left_out += found.left_out
            for part in found.parts:
                with doing(f"reading the table {table.name} from {part.path or part.name}"):
                    key, record = _landed(part, table, of_table, settings, cache / table.name)
                parts.append(record)
                used.add(key)
        if not places:
            continue
        if not any(part.rows for part in parts):
            count = sum(sum(part.left_out.values()) for part in parts)
            problem = f"`where` or `explode` leaves out all of its {count} rows." if count else "the table is empty."
            raise DataError(problem, file=places[0], remedy="export it again; at least one row is needed.")
        tables[table.name] = LandedTable(", ".join(dict.fromkeys(places)), parts, left_out)
    _sweep(cache, used)
    _check_rules(mapping, tables["interactions"])
    _check_attributes(mapping, tables)
    return Landing(uri_of(folder), tables, mapping.model_dump(mode="json"))


def _check_rules(mapping: DataMapping, log: LandedTable) -> None:
    """Raise `DataError` if `data.yaml` says what ratings or kinds mean, and no event has any: the rule would change nothing."""
    for column, name, rule in (("rating", "rating", mapping.rating), ("kind", "kinds", mapping.kinds)):
        if rule and not any(column in part.samples and part.missing.get(column, 0) < part.rows for part in log.parts):
            told = " ".join(sentence for part in log.parts for sentence in part.told if f" of {column} " in sentence)
            raise DataError(
                f"data.yaml says under {name} what values of it mean, but no event has one. {told}".rstrip(),
                file=log.place,
                column=column,
                remedy=f"name the column under interactions (columns: {{{column}: ...}}), or take {name} out of data.yaml.",
            )


def _check_attributes(mapping: DataMapping, tables: dict[str, LandedTable]) -> None:
    """Raise `DataError` if no value of an attribute can be read: models would be trained without it, unnoticed."""
    for table in (ITEMS, USERS):
        parts = tables[table.name].parts if table.name in tables else []
        for name, kind in mapping.of(table)[0].attributes.items():
            told = [sentence for part in parts for sentence in part.told if f" of {name} cannot be read" in sentence]
            if told and all(part.missing.get(name, 0) == part.rows for part in parts):
                raise DataError(
                    f"no value of this attribute can be read as {kind}. {told[0][0].upper()}{told[0][1:]}",
                    file=tables[table.name].place,
                    column=name,
                    remedy=f"give it as {kind}, or say what else it holds ({table.name}.attributes in data.yaml).",
                )


def _landed(
    part: Part, table: InputTable, mapping: TableMapping, settings: PipelineSettings, cache: Path
) -> tuple[str, LandedPart]:
    times = TimeRule.of(mapping, settings)
    reader = PartReader(part, with_attributes(table, mapping), mapping, times)
    part = reader.part
    known = [RULES, part.name, str(part.path), part.stamp, times.unit, mapping.model_dump(mode="json")]
    key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:32]
    record, parquet = cache / f"{key}.json", cache / f"{key}.parquet"
    cache.mkdir(parents=True, exist_ok=True)
    if not part.stamp:
        return _of_query(reader, cache, key)
    with suppress(OSError, ValueError, TypeError):
        kept = LandedPart(**json.loads(record.read_text()))
        if not kept.written or parquet.exists():
            record.touch()
            return key, kept
    made = reader.look() or reader.write(parquet)
    write_json(record, asdict(made))
    return key, made


def _of_query(reader: PartReader, cache: Path, key: str) -> tuple[str, LandedPart]:
    """The rows of a query, named by their digest: those of an earlier day stay for the run that names them."""
    written = cache / f"{key}-{uuid.uuid4().hex}.parquet"
    made = reader.write(written)
    kept = written.replace(cache / f"{key}-{made.digest[:32]}.parquet")
    return kept.stem, replace(made, uri=kept.resolve().as_uri())


def _sweep(cache: Path, used: set[str]) -> None:
    """Remove what is no part of the source any more, once no run can be reading it."""
    for path in cache.glob("*/*"):
        with suppress(OSError):  # another process may remove the same
            if path.name.lstrip(".").split(".")[0] not in used and time.time() - path.stat().st_mtime > _UNUSED_FOR:
                path.unlink()
