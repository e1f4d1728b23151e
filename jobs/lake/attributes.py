"""The attributes of a date's items, as the owner's catalogue names them: the struct `attributes` of the table `items`."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from esans_core.attributes import AttributeKind
from jobs.base.places import open_dataset
from jobs.lake.tables import Lake


def read_attributes(lake: Lake, date: dt.date, key: str, wanted: Sequence[Any] | np.ndarray) -> pa.Table | None:
    """The attributes of some items, one row each, or None if no attributes are named.

    Args:
        lake: where the table `items` lies.
        date: of the table.
        key: `item_id` or `item_index`.
        wanted: values of the key. An item that the table does not have gets nulls.

    Returns:
        A column for each attribute, in the order of their names: string (one category), list<string> (several), double (a
        number) or list<float> (a vector).
    """
    dataset = open_dataset(lake.path("items", date))
    if "attributes" not in dataset.schema.names:
        return None
    items = dataset.to_table(columns=[key, "attributes"]).combine_chunks()
    rows = pc.index_in(pa.array(wanted, items[key].type), value_set=items[key])
    return by_attribute(items["attributes"].take(rows))


def by_attribute(structs: pa.StructArray | pa.ChunkedArray) -> pa.Table:
    """A column for each field of structs; a missing struct has none of them."""
    kind = structs.type
    parts = [pc.struct_field(structs, number) for number in range(kind.num_fields)]
    return pa.table(parts, names=[kind.field(number).name for number in range(kind.num_fields)])


def kinds_of(attributes: pa.Table) -> dict[str, AttributeKind]:
    """What each attribute holds, from the types that `read_attributes` gives."""
    return {field.name: _kind(field.type) for field in attributes.schema}


def columns_of(attributes: pa.Table) -> dict[str, list[Any]]:
    """Each attribute as `esans_core.attributes.AttributeEncoder` takes it: one value for each item, None where it has none.

    Vectors share the memory of one array, because as Python's numbers they would take ten times as much.
    """
    return {
        name: _rows(attributes[name]) if kind == "embedding" else attributes[name].to_pylist()
        for name, kind in kinds_of(attributes).items()
    }


def _rows(vectors: pa.ChunkedArray) -> list[np.ndarray | None]:
    column = vectors.combine_chunks()
    flat, there = column.flatten().to_numpy(zero_copy_only=False), column.is_valid().to_numpy(zero_copy_only=False)
    ends = np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy()).tolist()
    return [flat[start:end] if here else None for start, end, here in zip([0, *ends], ends, there, strict=False)]


def _kind(held: pa.DataType) -> AttributeKind:
    if pa.types.is_list(held):
        return "texts" if pa.types.is_string(held.value_type) else "embedding"
    return "text" if pa.types.is_string(held) else "number"
