"""The prepared tables of one date: what training and evaluation read. Items are tensors, the users' events stay on disk."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import torch
from torch import Tensor

from esans_core.cluster_index import ClusterIndex
from jobs.codebook_store import load_codebooks
from jobs.errors import DataError
from jobs.event_log import ParquetLog
from jobs.lake import Lake
from jobs.settings import PipelineSettings
from jobs.views import read_views

CONTENT_MODALITIES = ("visual", "text")
INPUTS = ("items", "visual_features", "text_features", "sequences")
CLUSTER_INPUTS = ("clusters", "codebooks")


@dataclass(frozen=True)
class TrainingData:
    """Everything a training run needs. N items, U users.

    Attributes:
        item_ids: ids by item row, length N.
        content: float32 [N, F], visual and text vectors side by side, NaN where a view is missing.
        num_train: int64 [N], training events of each item.
        log: behaviour sequences of all users, on disk.
        encoders: fingerprint of the encoder behind each content view.
        digests: digest of each table read.
    """

    item_ids: list[str]
    content: Tensor
    num_train: Tensor
    log: ParquetLog
    encoders: dict[str, str]
    digests: dict[str, str]


@dataclass(frozen=True)
class ItemClusters:
    """What the semantic-aware sampler draws from.

    Attributes:
        index: cluster index of the catalogue.
        centroids: float32 [K_p, d], primary codes.
        digests: digest of each table read.
    """

    index: ClusterIndex
    centroids: Tensor
    digests: dict[str, str]


def load_training_data(settings: PipelineSettings) -> TrainingData:
    """Read one date's tables.

    Raises:
        DataError: a table is missing, or no item has a visual or textual vector.
    """
    lake, date = Lake.of(settings), settings.date
    items = lake.read("items", date, ["item_index", "item_id", "num_train"]).sort_by("item_index")
    content, encoders = read_content(settings, items["item_index"].to_numpy())
    return TrainingData(
        item_ids=items["item_id"].to_pylist(),
        content=content,
        num_train=_tensor(items["num_train"]).long(),
        log=ParquetLog(pads.dataset(lake.path("sequences", date), format="parquet")),
        encoders=encoders,
        digests={table: lake.manifest(table, date)["digest"] for table in INPUTS},
    )


def load_item_clusters(settings: PipelineSettings) -> ItemClusters:
    """Read one date's clusters.

    Raises:
        DataError: a table is missing.
    """
    lake, date = Lake.of(settings), settings.date
    clusters = lake.read("clusters", date, ["item_index", "primary", "secondary"]).sort_by("item_index")
    centroids = torch.from_numpy(load_codebooks(lake.path("codebooks", date))[1].primary_PD)
    return ItemClusters(
        index=ClusterIndex.from_labels(_tensor(clusters["primary"]), _tensor(clusters["secondary"]), len(centroids)),
        centroids=centroids,
        digests={table: lake.manifest(table, date)["digest"] for table in CLUSTER_INPUTS},
    )


def read_content(settings: PipelineSettings, item_index: np.ndarray) -> tuple[Tensor, dict[str, str]]:
    """Visual and textual vectors side by side, float32 [N, F] with NaN for a missing view, and the encoders behind them.

    The behavioural view is no content: a new item has none, and the towers learn behaviour themselves.
    """
    views = read_views(settings, item_index)
    parts = {}
    for column, name in enumerate(views.arrays):
        if name in CONTENT_MODALITIES:
            parts[name] = np.where(views.present[:, column, None], views.arrays[name], np.float32(np.nan))
    if not parts:
        raise DataError(
            "no item has a visual or a textual vector.",
            file=Lake.of(settings).path("items", settings.date),
            remedy="bring images or texts: new items cannot be served without content.",
        )
    content = torch.from_numpy(np.concatenate(list(parts.values()), axis=1))
    return content, {name: views.encoders[name] for name in parts}


def _tensor(column: pa.ChunkedArray) -> Tensor:
    return torch.from_numpy(column.to_numpy().copy())
