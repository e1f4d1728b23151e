"""The prepared tables of one date as tensors: what training and evaluation read."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file
from torch import Tensor

from esans_core.cluster_index import ClusterIndex
from esans_core.sequences import Sequences
from jobs.errors import DataError
from jobs.lake import Lake
from jobs.settings import PipelineSettings

INPUTS = ("items", "visual_features", "text_features", "clusters", "codebooks", "sequences")


@dataclass(frozen=True)
class TrainingData:
    """Everything a training run needs. N items, U users.

    Attributes:
        item_ids: ids by item row, length N.
        content: float32 [N, F], visual and text vectors side by side, NaN where a view is missing.
        num_train: int64 [N], training events of each item.
        sequences: behaviour sequences of all users.
        index: cluster index of the catalogue.
        centroids: float32 [K_p, d], primary codes.
        encoders: fingerprint of the encoder behind each content view.
        digests: digest of each table read.
    """

    item_ids: list[str]
    content: Tensor
    num_train: Tensor
    sequences: Sequences
    index: ClusterIndex
    centroids: Tensor
    encoders: dict[str, str]
    digests: dict[str, str]


def load_training_data(settings: PipelineSettings) -> TrainingData:
    """Read one date's tables.

    Raises:
        DataError: a table is missing, or no item has a visual or textual vector.
    """
    lake, date = Lake.of(settings), settings.date
    items = lake.read("items", date, ["item_index", "item_id", "num_train"]).sort_by("item_index")
    views, encoders = [], {}
    for table in ("visual_features", "text_features"):
        features = lake.read(table, date, ["item_index", "vector", "encoder"]).sort_by("item_index")
        views.append(dense_vectors(features["vector"]))
        encoders[table] = features["encoder"][0].as_py()
    content = torch.from_numpy(np.concatenate(views, axis=1))
    if content.shape[1] == 0:
        raise DataError(
            "no item has a visual or a textual vector.",
            file=lake.path("items", date),
            remedy="bring images or texts: new items cannot be served without content.",
        )
    clusters = lake.read("clusters", date, ["item_index", "primary", "secondary"]).sort_by("item_index")
    centroids = load_file(lake.path("codebooks", date) / "codebooks.safetensors")["primary"]
    sequences = lake.read("sequences", date).sort_by("user_index")
    item_lists = sequences["item_index"].combine_chunks()
    return TrainingData(
        item_ids=items["item_id"].to_pylist(),
        content=content,
        num_train=_tensor(items["num_train"]).long(),
        sequences=Sequences(
            items=torch.from_numpy(item_lists.flatten().to_numpy().astype(np.int64)),
            offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(item_lists.value_lengths().to_numpy())])),
            num_train=_tensor(sequences["num_train"]).long(),
            num_validation=_tensor(sequences["num_validation"]).long(),
        ),
        index=ClusterIndex.from_labels(_tensor(clusters["primary"]), _tensor(clusters["secondary"]), len(centroids)),
        centroids=centroids,
        encoders=encoders,
        digests={table: lake.manifest(table, date)["digest"] for table in INPUTS},
    )


def dense_vectors(column: pa.ChunkedArray) -> np.ndarray:
    """List column to float32 [rows, width], NaN rows for nulls; width 0 when every row is null."""
    vectors = column.combine_chunks()
    lengths = np.unique(vectors.value_lengths().drop_null().to_numpy())
    if len(lengths) > 1:
        raise DataError(f"holds vectors of lengths {lengths.tolist()}.", column="vector", remedy="encode all items again.")
    dense = np.full((len(vectors), int(lengths[0]) if len(lengths) else 0), np.nan, dtype=np.float32)
    present = np.asarray(vectors.is_valid())
    dense[present] = vectors.drop_null().flatten().to_numpy().reshape(present.sum(), dense.shape[1])
    return dense


def _tensor(column: pa.ChunkedArray) -> Tensor:
    return torch.from_numpy(column.to_numpy().copy())
