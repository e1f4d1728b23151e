"""Clusters as training reads them: mapped from disk, and equal to those built in memory."""

import json
from dataclasses import replace

import numpy as np
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
from jobs.training.data import ItemClusters, TrainingData, load_item_clusters, load_training_data


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
