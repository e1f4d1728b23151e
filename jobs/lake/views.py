"""The three views of items as arrays, for fitting the clusters and for assigning them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.lake.item_tables import ItemTable

MODALITIES = ("visual", "text", "behaviour")  # the order of the views everywhere
FEATURE_TABLES = tuple(f"{name}_features" for name in MODALITIES)


@dataclass(frozen=True)
class Views:
    """Views of N items.

    Attributes:
        arrays: name of each modality that some item has -> float32 [N, F], zero where the view is missing.
        present: bool [N, M], whether the item has the view, in the order of `arrays`.
        encoders: name of each of these modalities -> fingerprint of the encoder behind it.
    """

    arrays: dict[str, np.ndarray]
    present: np.ndarray
    encoders: dict[str, str]


@dataclass(frozen=True)
class ViewBatch:
    """Views of B consecutive items.

    Attributes:
        item_index: int64 [B].
        item_id: string [B].
        arrays: name of each modality asked for -> float32 [B, F], zero where the view is missing.
        has: name of every modality -> bool [B], whether the item has the view.
    """

    item_index: pa.Array
    item_id: pa.Array
    arrays: dict[str, np.ndarray]
    has: dict[str, np.ndarray]


def feature_tables(settings: PipelineSettings) -> dict[str, ItemTable]:
    """The feature table of each modality. Raises `DataError` if one is missing, or if they differ in length."""
    tables = {name: ItemTable.of(settings, table) for name, table in zip(MODALITIES, FEATURE_TABLES, strict=True)}
    rows = {table.name: table.num_rows for table in tables.values()}
    if len(set(rows.values())) > 1:
        raise DataError(
            f"the feature tables hold {rows} rows, but they should be the same items.",
            file=" and ".join(FEATURE_TABLES),
            column="item_index",
            remedy="run the three feature jobs of this date again.",
        )
    return tables


def view_batches(
    tables: Mapping[str, ItemTable], input_dims: Mapping[str, int], start: int = 0, stop: int | None = None
) -> Iterator[ViewBatch]:
    """The items from row `start` to `stop` with their views, for heads that are already fitted.

    Args:
        tables: of every modality, from `feature_tables`.
        input_dims: modality -> F that the heads expect, in their order.
        start: first row.
        stop: row after the last; the end of the tables by default.

    Raises:
        DataError: the tables are about different items; or vectors do not have the length that the heads expect, or hold NaN
            or infinity.
    """
    streams = [table.batches(["item_id", "vector"], start=start, stop=stop) for table in tables.values()]
    for batches in zip(*streams, strict=True):
        item_id = batches[0]["item_id"]
        arrays, has = {}, {}
        for (name, table), batch in zip(tables.items(), batches, strict=True):
            if not batch["item_id"].equals(item_id):
                raise DataError(
                    f"the ids differ from those in the same rows of {FEATURE_TABLES[0]}.",
                    file=table.name,
                    column="item_id",
                    remedy="run the three feature jobs of this date again: their tables must hold the same items.",
                )
            arrays[name], has[name] = _finite_view(table.name, batch["vector"], item_id, input_dims.get(name))
        yield ViewBatch(batches[0]["item_index"], item_id, {name: arrays[name] for name in input_dims}, has)


def read_views(settings: PipelineSettings, item_index: np.ndarray) -> Views:
    """Views of some items of the date, with rows in the order of `item_index` (int64, ascending, each once).

    It needs hardly more memory than the arrays that it returns.

    Raises:
        DataError: an item has no row, vectors differ in length, a vector holds NaN or infinity, or no item has any view.
    """
    arrays, present, encoders = {}, [], {}
    for name, table in feature_tables(settings).items():
        if len(item_index) and item_index[-1] >= table.num_rows:
            raise DataError(
                f"expected a row for item {item_index[-1]}, but there are only {table.num_rows} rows.",
                file=table.name,
                column="item_index",
                remedy="run the three feature jobs of this date again: their tables must hold the items of the catalogue.",
            )
        values, here, encoder = _read_view(table, item_index)
        if here.any():
            arrays[name], encoders[name] = values, encoder
            present.append(here)
    if not arrays:
        raise DataError(
            "no item has a view of any kind.",
            file=" and ".join(FEATURE_TABLES),
            remedy="bring images, texts or more interactions: clusters need at least one of them.",
        )
    return Views(arrays, np.stack(present, axis=1), encoders)


def dense_view(vectors: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A column of vectors, null where the view is missing, as float32 [N, F] (zero there) and bool [N].

    A null inside a vector becomes NaN. F is 0 if no item has the view. If every item has it, nothing is copied.

    Raises:
        ValueError: vectors of unequal length, or empty ones.
    """
    present = vectors.is_valid().to_numpy(zero_copy_only=False)
    sizes = pc.unique(vectors.value_lengths().drop_null()).to_pylist()
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"expected vectors of one length, got lengths {sorted(sizes)}.")
    if not sizes:
        return np.zeros((len(vectors), 0), np.float32), present
    found = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, sizes[0])
    if vectors.null_count == 0:
        return found, present
    dense = np.zeros((len(vectors), sizes[0]), np.float32)
    dense[present] = found
    return dense, present


def _read_view(table: ItemTable, item_index: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """float32 [N, F] (zero where the view is missing), bool [N], and the encoders behind the vectors."""
    values, here, encoders = np.zeros((len(item_index), 0), np.float32), np.zeros(len(item_index), bool), set[str]()
    stop = 0
    for batch in table.batches(["item_id", "vector", "encoder"]):
        first = batch["item_index"][0].as_py()
        start, stop = stop, int(np.searchsorted(item_index, first + batch.num_rows))
        chosen = batch if stop - start == batch.num_rows else batch.take(pa.array(item_index[start:stop] - first))
        found, here[start:stop] = _finite_view(table.name, chosen["vector"], chosen["item_id"], values.shape[1] or None)
        if not here[start:stop].any():
            continue
        if not values.shape[1]:
            values = np.zeros((len(item_index), found.shape[1]), np.float32)
        values[start:stop] = found
        encoders.update(pc.unique(chosen["encoder"].filter(pa.array(here[start:stop])).drop_null()).to_pylist())
    return values, here, "+".join(sorted(encoders))


def _finite_view(table: str, vectors: pa.Array, item_id: pa.Array, size: int | None) -> tuple[np.ndarray, np.ndarray]:
    """`dense_view` of vectors that must be finite, and must have `size` values if a size is given."""
    try:
        dense, here = dense_view(vectors)
        if not here.any():
            return np.zeros((len(here), size or 0), np.float32), here
        if size is not None and dense.shape[1] != size:
            raise ValueError(f"expected vectors of one length, got lengths {sorted((dense.shape[1], size))}.")
    except ValueError as error:
        raise DataError(
            str(error), file=table, column="vector", remedy="write the table again with one encoder for all items."
        ) from error
    bad = np.flatnonzero(~np.isfinite(dense).all(axis=1))
    if len(bad):
        raise DataError(
            f"{len(bad)} of {len(here)} vectors hold NaN or infinity.",
            file=table,
            column="vector",
            rows=item_id.take(pa.array(bad)).to_pylist(),
            remedy="look at these items' image or text and at the encoder, then write the table again.",
        )
    return dense, here
