"""Clusters as training reads them: mapped from disk, and equal to those built in memory."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from training_tables import write_training_tables

from esans_core.cluster_index import ClusterIndex
from esans_core.loader import Loader
from esans_core.training import train_epoch
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.training import train
from jobs.training.data import ItemClusters, TrainingData, load_item_clusters, load_training_data, read_content
from tests.jobs import source_builder as build


def trained(settings: PipelineSettings, data: TrainingData, clusters: ItemClusters) -> tuple[float, list[torch.Tensor]]:
    """Loss and weights after an epoch."""
    torch.manual_seed(0)
    model = train.build_model(settings, data)
    loader = Loader(data.log, batch_size=64, max_history=8)
    frequency = loader.target_frequency(len(data.item_ids))
    objective = train.build_objective(settings, data, clusters, frequency, "esans", 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loss = train_epoch(model, objective, loader, [optimizer], seed=1)
    return loss, list(model.state_dict().values())


def test_a_mapped_index_trains_as_one_built_in_memory(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    data, mapped = load_training_data(settings), load_item_clusters(settings)
    table = Lake.of(settings).read_pandas("clusters", settings.date)
    labels = (torch.from_numpy(table[level].to_numpy().copy()) for level in ("primary", "secondary"))
    built = replace(mapped, index=ClusterIndex.from_labels(*labels, num_primary=6))
    (loss, weights), (expected, expected_weights) = trained(settings, data, mapped), trained(settings, data, built)
    assert loss == expected
    assert all(torch.equal(left, right) for left, right in zip(weights, expected_weights, strict=True))


def test_attributes_join_the_content_and_nothing_changes_without_them(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    plain = load_training_data(settings)
    items = Lake.of(settings).read_pandas("items", settings.date)
    rows = range(len(items))
    attributes = [
        None
        if row == 3
        else {
            "category": f"c{row % 5}",
            "look": np.array([row, 0.5], np.float32),
            "markets": ["DE", "AT"][: row % 3],
            "price": float(row),
        }
        for row in rows
    ]
    build.publish(settings, "items", items.assign(attributes=attributes).sample(frac=1, random_state=0))
    data = load_training_data(settings)
    assert data.content.dtype == torch.float32 and data.content.shape[1] == plain.content.shape[1] + 64 + 2 + 64 + 1
    before, joined = data.content.split([plain.content.shape[1], 131], dim=1)
    torch.testing.assert_close(before, plain.content, rtol=0, atol=0, equal_nan=True)
    assert data.encoders == plain.encoders | {
        "attributes": "attributes-1 category:text:64 look:embedding:2 markets:texts:64 price:number:1"
    }
    assert joined[3].isnan().all() and not joined[torch.arange(len(joined)) != 3].isnan().any()
    assert torch.equal(joined[4, :64], joined[9, :64]) and not torch.equal(joined[4, :64], joined[5, :64])
    assert joined[7, 64:66].tolist() == [7, 0.5] and float(joined[7, -1]) == pytest.approx(np.log(8))
    some, _ = read_content(settings, np.array([2, 3, 60]))
    torch.testing.assert_close(some, data.content[[2, 3, 60]], rtol=0, atol=0, equal_nan=True)


def test_items_known_by_their_ids_or_attributes_alone_can_be_trained(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    lake = Lake.of(settings)
    for table in ("visual_features", "text_features"):
        rows = lake.read_pandas(table, settings.date)
        nothing = pd.Series([None] * len(rows), dtype=pd.ArrowDtype(pa.list_(pa.float32())))
        build.publish(settings, table, rows.assign(vector=nothing, status="missing"))
    data = load_training_data(settings)
    assert data.content.shape == (len(data.content), 1) and data.content.isnan().all() and data.encoders == {}
    items = lake.read_pandas("items", settings.date)
    build.publish(settings, "items", items.assign(attributes=[{"price": float(row)} for row in range(len(items))]))
    data = load_training_data(settings)
    assert data.content.shape == (len(items), 1) and list(data.encoders) == ["attributes"]


def test_an_index_that_does_not_fit_is_refused(settings: PipelineSettings) -> None:
    write_training_tables(settings)
    folder = Lake.of(settings).path("cluster_index", settings.date)
    order = np.load(folder / "order.npy")
    np.save(folder / "order.npy", order[1:])
    with pytest.raises(DataError, match=r"cluster_index.*do not rise from 0.*Remedy: run assign_clusters again"):
        load_item_clusters(settings)
    np.save(folder / "order.npy", order)
    load_item_clusters(settings)

    manifest = folder.parent / "CURRENT"
    about = json.loads(manifest.read_text())
    about["inputs"]["clusters"] = "another"
    manifest.write_text(json.dumps(about))
    with pytest.raises(DataError, match="was made from earlier clusters of this date"):
        load_item_clusters(settings)
