"""Saves trained towers on disk and loads them again. The files are safetensors and JSON, never pickle."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from upath import UPath

from esans_core.towers import TwoTower
from jobs.base.errors import DataError
from jobs.base.places import local_draft, local_file

WEIGHTS, META, ITEM_IDS = "towers.safetensors", "model.json", "item_ids.parquet"


def save_towers(folder: UPath | Path, model: TwoTower, item_ids: list[str], meta: dict[str, Any]) -> None:
    """Write weights, shapes and the item vocabulary; `meta` (JSON values) goes into the same file as the shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with local_draft(folder / WEIGHTS) as file:
        save_file(state, file)
    embedding = model.item_input.id_embedding
    shapes = {
        "num_items": model.num_items,
        "num_features": model.item_input.content.shape[1],
        "dim": embedding.embedding_dim,
        "num_heads": model.user_tower.num_heads,
        "max_history": model.user_tower.max_history,
        "id_dropout": model.item_input.id_dropout,
    }
    (folder / META).write_text(json.dumps(shapes | meta, indent=2, sort_keys=True) + "\n")
    with local_draft(folder / ITEM_IDS) as file:
        pd.DataFrame({"item_index": range(len(item_ids)), "item_id": item_ids}).to_parquet(file, index=False)


def load_towers(folder: UPath | Path) -> tuple[TwoTower, dict[str, Any], list[str]]:
    """The towers in eval mode, their metadata, and item ids by row.

    Raises:
        DataError: a file is missing or does not fit the others.
    """
    for name in (WEIGHTS, META, ITEM_IDS):
        if not (folder / name).exists():
            raise DataError("is missing from a saved model.", file=folder / name, remedy="train the model again.")
    meta = json.loads((folder / META).read_text())
    model = TwoTower(
        torch.zeros(meta["num_items"], meta["num_features"]),
        torch.zeros(meta["num_items"], dtype=torch.bool),
        dim=meta["dim"],
        num_heads=meta["num_heads"],
        max_history=meta["max_history"],
        id_dropout=meta["id_dropout"],
    )
    with local_file(folder / WEIGHTS) as file:
        model.load_state_dict(load_file(file))
    with local_file(folder / ITEM_IDS) as file:
        item_ids = pd.read_parquet(file)["item_id"].tolist()
    if len(item_ids) != model.num_items:
        raise DataError(
            f"holds {len(item_ids)} ids, but the weights are those of {model.num_items} items.",
            file=folder / ITEM_IDS,
            remedy="train the model again.",
        )
    return model.eval(), meta, item_ids
