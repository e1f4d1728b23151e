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
from jobs.base.files import file_digest
from jobs.base.places import local_draft, local_file

WEIGHTS, META, ITEM_IDS = "towers.safetensors", "model.json", "item_ids.parquet"
SERVED = "served"  # folder, in that of the judged towers, of those that serve instead
_FORMAT = 2  # version 0.2 wrote no number, and had other towers


def save_towers(folder: UPath | Path, model: TwoTower, item_ids: list[str], meta: dict[str, Any]) -> None:
    """Write weights, shapes and the item vocabulary; `meta` (JSON values) goes into the same file as the shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with local_draft(folder / WEIGHTS) as file:
        save_file(state, file)
    shapes = {
        "format": _FORMAT,
        "num_items": model.num_items,
        "num_features": model.item_input.content.shape[1],
        "towers": model.options,
    }
    (folder / META).write_text(json.dumps(shapes | meta, indent=2, sort_keys=True) + "\n")
    with local_draft(folder / ITEM_IDS) as file:
        pd.DataFrame({"item_index": range(len(item_ids)), "item_id": item_ids}).to_parquet(file, index=False)


def load_towers(folder: UPath | Path) -> tuple[TwoTower, dict[str, Any], list[str]]:
    """The towers in eval mode, their metadata, and item ids by row.

    Raises:
        DataError: a file is missing or does not fit the others, or an earlier version has written them (`readable`).
    """
    for name in (WEIGHTS, META, ITEM_IDS):
        if not (folder / name).exists():
            raise DataError("is missing from a saved model.", file=folder / name, remedy="train the model again.")
    meta = json.loads((folder / META).read_text())
    if meta.get("format") != _FORMAT:
        raise DataError(
            "holds towers of another version of this project, which this one cannot read.",
            file=folder / META,
            remedy="train the model again.",
        )
    model = TwoTower(
        torch.zeros(meta["num_items"], meta["num_features"]),
        torch.zeros(meta["num_items"], dtype=torch.bool),
        **meta["towers"],
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


def load_served(folder: UPath | Path) -> tuple[TwoTower, dict[str, Any], list[str]]:
    """`load_towers` of the towers that serve: those trained on all events if they were saved, else those that were judged."""
    served = folder / SERVED
    return load_towers(served if (served / META).exists() else folder)


def weights_digest(folder: UPath | Path) -> str:
    """SHA-256 of the weights that serve. It names a model, whatever else is kept beside its weights, and wherever they lie."""
    served = folder / SERVED / WEIGHTS
    return file_digest(served if served.exists() else folder / WEIGHTS)


def readable(folder: UPath | Path) -> bool:
    """Whether saved towers are of a kind that this version of the project knows. Those of version 0.2 and earlier are not."""
    return json.loads((folder / META).read_text()).get("format") == _FORMAT
