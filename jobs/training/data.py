"""Reads the tables of one date for training and evaluation. Items become tensors; the users' events stay on disk."""

import logging
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from esans_core.attributes import AttributeEncoder
from esans_core.cluster_index import ClusterIndex
from esans_core.towers import Order
from jobs.base.errors import DataError
from jobs.base.places import kept_copy, open_dataset
from jobs.base.settings import PipelineSettings
from jobs.clusters.codebook_store import load_codebooks
from jobs.lake.attributes import columns_of, kinds_of, read_attributes
from jobs.lake.event_log import ParquetLog
from jobs.lake.tables import Lake
from jobs.lake.user_features import num_features
from jobs.lake.views import read_views

CONTENT_MODALITIES = ("visual", "text")
ATTRIBUTES, USERS = "attributes", "users"
INPUTS = ("items", "visual_features", "text_features", "sequences")
log = logging.getLogger(__name__)

_TIED = 0.8  # share of events with the time of the one before, above which a log has no order
CLUSTER_INPUTS = ("cluster_index", "codebooks")


@dataclass(frozen=True)
class TrainingData:
    """Everything a training run reads. N is the number of items.

    Attributes:
        item_ids: ids by item row, length N.
        content: float32 [N, F], visual and text vectors and attributes side by side, NaN where something is missing.
        num_train: int64 [N], training events of each item.
        log: behaviour sequences of all users, on disk.
        encoders: fingerprint of the encoder behind each content view, and `users`, of what is known of users.
        order: what a user's events are, `sequence` or `set`.
        digests: digest of each table read.
    """

    item_ids: list[str]
    content: Tensor
    num_train: Tensor
    log: ParquetLog
    encoders: dict[str, str]
    order: Order
    digests: dict[str, str]


@dataclass(frozen=True)
class ItemClusters:
    """The clusters that the semantic-aware sampler draws from.

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
        DataError: a table is missing.
    """
    lake, date = Lake.of(settings), settings.date
    items = lake.read("items", date, ["item_index", "item_id", "num_train"]).sort_by("item_index")
    content, encoders = read_content(settings, items["item_index"].to_numpy())
    encoders |= user_encoder(settings)
    return TrainingData(
        item_ids=items["item_id"].to_pylist(),
        content=content,
        num_train=_tensor(items["num_train"]).long(),
        log=open_log(settings),
        encoders=encoders,
        order=order_of(settings),
        digests={table: lake.manifest(table, date)["digest"] for table in INPUTS},
    )


def open_log(settings: PipelineSettings) -> ParquetLog:
    """The users' events of the date. Raises `DataError` if the table is missing or damaged."""
    lake, date = Lake.of(settings), settings.date
    again = bool(lake.manifest("sequences", date)["stats"].get("again"))
    features = sum(map(num_features, user_encoder(settings).values()))
    return ParquetLog(open_dataset(lake.path("sequences", date)), again=again, user_features=features)


def user_encoder(settings: PipelineSettings) -> dict[str, str]:
    """`users` -> fingerprint of the encoder behind the users' features; empty if nothing is known of users."""
    found = Lake.of(settings).manifest("sequences", settings.date)["stats"].get("user_features")
    return {USERS: found["encoder"]} if found else {}


def order_of(settings: PipelineSettings) -> Order:
    """What a user's events are for the towers: the setting, or, if that is `auto`, what the date's log shows.

    A log is taken for one without order if most of its events have the time of the user's event before, so that nobody can tell
    which came first. Where times are dates, four in ten events of real shops still do not, and their order is worth much.
    """
    if settings.training.order != "auto":
        return settings.training.order
    tied = Lake.of(settings).manifest("sequences", settings.date)["stats"].get("tied_share")
    return "set" if tied is not None and tied > _TIED else "sequence"


def load_item_clusters(settings: PipelineSettings) -> ItemClusters:
    """Read one date's clusters. The index is mapped into memory, and all processes of a machine share that memory.

    Raises:
        DataError: a table is missing, or the index is damaged or was made from other clusters.
    """
    lake, date = Lake.of(settings), settings.date
    folder, made_of = lake.path("cluster_index", date), lake.manifest("cluster_index", date)["inputs"]["clusters"]
    centroids = torch.from_numpy(load_codebooks(lake.path("codebooks", date))[1].primary_PD)
    try:
        index = ClusterIndex.load(kept_copy(folder, settings.home / "cache" / "cluster_index"))
        if made_of != lake.manifest("clusters", date)["digest"]:
            raise ValueError(f"{folder} was made from earlier clusters of this date")
        if index.num_primary != len(centroids):
            raise ValueError(f"{folder} has {index.num_primary} primary clusters, but the codebooks have {len(centroids)}")
    except ValueError as error:
        raise DataError(str(error), file="cluster_index", remedy="run assign_clusters again for this date.") from error
    digests = {table: lake.manifest(table, date)["digest"] for table in CLUSTER_INPUTS}
    return ItemClusters(index=index, centroids=centroids, digests=digests)


def read_content(settings: PipelineSettings, item_index: np.ndarray) -> tuple[Tensor, dict[str, str]]:
    """Visual and textual vectors and the owner's attributes side by side, and the encoders that made them.

    It is float32 [N, F], NaN where an item lacks a view or an attribute. The behavioural view is not part of the content: a new
    item has none, and the towers learn behaviour themselves. If the catalogue holds ids alone, F is 1, and all of it is NaN.
    """
    views = read_views(settings, item_index)
    parts = {}
    for column, name in enumerate(views.arrays):
        if name in CONTENT_MODALITIES:
            parts[name] = np.where(views.present[:, column, None], views.arrays[name], np.float32(np.nan))
    encoders = {name: views.encoders[name] for name in parts}
    attributes = read_attributes(Lake.of(settings), settings.date, "item_index", item_index)
    if attributes is not None:
        columns = columns_of(attributes)
        encoder = AttributeEncoder.of(kinds_of(attributes), columns)
        parts[ATTRIBUTES], encoders[ATTRIBUTES] = encoder.encode(columns), encoder.fingerprint
    if not parts:  # one feature that no item has, so that the towers tell items apart by their ids
        log.warning("no item has a picture, a text or an attribute, so a new item cannot be found before it has events")
        parts["nothing"] = np.full((len(item_index), 1), np.nan, np.float32)
    content = torch.from_numpy(np.concatenate(list(parts.values()), axis=1))
    return content, encoders


def _tensor(column: pa.ChunkedArray) -> Tensor:
    return torch.from_numpy(column.to_numpy().copy())
