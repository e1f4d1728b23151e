"""Checks the attributes of items and of users, which `data.yaml` names."""

from collections.abc import Mapping
from typing import Literal

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from esans_core.attributes import SIGNS, AttributeEncoder
from jobs.base.errors import DataError
from jobs.source.tables import Source


def attribute_encoder(rows: DataFrame, source: Source, table: Literal["items", "users"]) -> AttributeEncoder:
    """The encoder of a table's attributes, in the order of their names.

    Args:
        rows: item_id or user_id, and the struct `attributes` if there are any.
        source: names the attributes and their file.
        table: whose attributes they are.

    Raises:
        DataError: the vectors of an attribute differ in length, or nobody has one; it names two whose vectors differ.
    """
    kinds: Mapping[str, str] = getattr(source.mapping, table).attributes
    widths = {
        name: _length(rows, name, source, table) if kind == "embedding" else 1 if kind == "number" else SIGNS
        for name, kind in kinds.items()
    }
    return AttributeEncoder({name: (kinds[name], widths[name]) for name in sorted(kinds)})  # type: ignore[misc]


def _length(rows: DataFrame, name: str, source: Source, table: Literal["items", "users"]) -> int:
    """Length of the vectors of an attribute."""
    key, vector = f"{table[:-1]}_id", F.col("attributes").getField(name)
    sizes = rows.where(vector.isNotNull()).groupBy(F.size(vector).alias("size"))
    found = sizes.agg(F.count(F.lit(1)).alias("rows"), F.min(key).alias("key")).orderBy("size").collect()
    if len(found) == 1:
        return int(found[0]["size"])
    said = ", ".join(f"{row['rows']} of length {row['size']} (such as that of {row['key']})" for row in found[:5])
    raise DataError(
        f"the vectors of one attribute must have one length; there are {said or 'none'}.",
        file=source.file(table),
        column=name,
        remedy="make all of them with one model, or leave the attribute out of data.yaml.",
    )
