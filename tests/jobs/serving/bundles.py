"""A date with a challenger of random weights, and its bundle, for the tests of serving."""

from pathlib import Path

import torch
from training_tables import write_training_tables

from esans_core.towers import TwoTower
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.serving.bundle import build_bundle
from jobs.training.data import load_training_data
from jobs.training.model_store import load_towers, save_towers


def write_challenger(settings: PipelineSettings, seed: int = 0, popularity: float = 0.0) -> TwoTower:
    """Write the tables of the date and a challenger, and return its towers as they are after loading.

    Args:
        settings: settings of the run.
        seed: of the weights.
        popularity: standard deviation of the items' popularity; 0 leaves it as it starts.
    """
    write_training_tables(settings)
    data = load_training_data(settings)
    torch.manual_seed(seed)
    towers = TwoTower(data.content, data.num_train > 0, dim=16, num_heads=2, max_history=8, popularity=True).eval()
    if popularity and towers.item_input.popularity is not None:
        torch.nn.init.normal_(towers.item_input.popularity.weight, std=popularity)
    with Lake.of(settings).write("challenger", settings, inputs=("items", "sequences")) as pending:
        save_towers(pending.path, towers, data.item_ids, {"encoders": data.encoders})
        pending.stats = {"run_key": f"key-{settings.ds}-{seed}", "mlflow_run_id": "none", "method": "esans"}
    return load_towers(Lake.of(settings).path("challenger", settings.date))[0]


def build(settings: PipelineSettings, folder: Path, seed: int = 0) -> Path:
    """A date's bundle in a new folder."""
    write_challenger(settings, seed)
    build_bundle(settings, folder)
    return folder
