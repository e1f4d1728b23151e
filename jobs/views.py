"""The three views of an item as arrays: what fitting the clusters and assigning them have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from jobs.errors import DataError
from jobs.lake import Lake
from jobs.places import open_dataset
from jobs.settings import PipelineSettings

MODALITIES = ("visual", "text", "behaviour")  # the order of the views everywhere
FEATURE_TABLES = tuple(f"{name}_features" for name in MODALITIES)


@dataclass(frozen=True)
class Views:
    """Views of N items.

    Attributes:
        arrays: name of each modality that some item has -> float32 [N, F], zero where the view is missing.
        present: bool [N, M], in the order of `arrays`.
        encoders: name of each of these modalities -> fingerprint of the encoder behind it.
    """

    arrays: dict[str, np.ndarray]
    present: np.ndarray
    encoders: dict[str, str]


def dense_view(vectors: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """A column of vectors, null where the view is missing, as float32 [N, F] (zero there) and bool [N].

    A null inside a vector becomes NaN. F is 0 when no item has the view.

    Raises:
        ValueError: vectors of unequal length, or empty ones.
    """
    present = vectors.is_valid().to_numpy(zero_copy_only=False)
    sizes = pc.unique(vectors.value_lengths().drop_null()).to_pylist()
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"vectors of one length expected, got lengths {sorted(sizes)}.")
    dense = np.zeros((len(vectors), sizes[0] if sizes else 0), np.float32)
    dense[present] = vectors.flatten().to_numpy(zero_copy_only=False).reshape(-1, dense.shape[1]) if sizes else 0
    return dense, present


def read_views(settings: PipelineSettings, item_index: np.ndarray) -> Views:
    """Views of some items of the date, rows in the order of `item_index` (ascending).

    Raises:
        DataError: an item has no row, vectors differ in length, a vector holds NaN or infinity, or no item has any view.
    """
    arrays, present, encoders = {}, [], {}
    for name, table in zip(MODALITIES, FEATURE_TABLES, strict=True):
        rows = _read_rows(settings, table, item_index)
        try:
            values, here = dense_view(rows["vector"].combine_chunks())
        except ValueError as error:
            raise DataError(
                str(error), file=table, column="vector", remedy="write the table again with one encoder for all items."
            ) from error
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise not_finite(table, rows["item_id"].take(bad).to_pylist())
        if here.any():
            arrays[name] = values
            present.append(here)
            encoders[name] = "+".join(sorted(pc.unique(rows["encoder"].filter(pa.array(here)).drop_null()).to_pylist()))
    if not arrays:
        raise DataError(
            "no item has a view of any kind.",
            file=" and ".join(FEATURE_TABLES),
            remedy="bring images, texts or more interactions: clusters rest on at least one of them.",
        )
    return Views(arrays, np.stack(present, axis=1), encoders)


def not_finite(table: str, item_ids: Sequence[str]) -> DataError:
    """The error for vectors with NaN or infinity."""
    return DataError(
        f"{len(item_ids)} vectors hold NaN or infinity.",
        file=table,
        column="vector",
        rows=item_ids,
        remedy="look at these items' image or text and at the encoder, then write the table again.",
    )


def dense_views(columns: Mapping[str, pa.Array], input_dims: Mapping[str, int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Views of a batch for heads that were fitted already: arrays by modality, and bool [N, M].

    Args:
        columns: modality -> its column of vectors.
        input_dims: modality -> F that the heads expect, in their order.

    Raises:
        ValueError: vectors of another length than the heads expect.
    """
    arrays, present = {}, []
    for name, size in input_dims.items():
        values, here = dense_view(columns[name])
        if here.any() and values.shape[1] != size:
            raise ValueError(f"{name} vectors have {values.shape[1]} values, the alignment heads were fitted on {size}")
        arrays[name] = values if here.any() else np.zeros((len(here), size), np.float32)
        present.append(here)
    return arrays, np.stack(present, axis=1)


def _read_rows(settings: PipelineSettings, table: str, item_index: np.ndarray) -> pa.Table:
    dataset = open_dataset(Lake.of(settings).path(table, settings.date))
    wanted = pads.field("item_index").isin(pa.array(item_index))
    rows = dataset.to_table(columns=["item_index", "item_id", "vector", "encoder"], filter=wanted).sort_by("item_index")
    if not np.array_equal(rows["item_index"].to_numpy(), item_index):
        raise DataError(
            f"expected one row for each of {len(item_index)} items, got {rows.num_rows}.",
            file=table,
            column="item_index",
            remedy="run the three feature jobs of this date again: their tables must hold the same items.",
        )
    return rows
