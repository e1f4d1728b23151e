"""Alignment heads and codebooks on disk: `codebooks.safetensors` and `codebooks.json`."""

import json
from typing import Any

from safetensors.numpy import load_file, save_file
from upath import UPath

from esans_core.clusters.alignment import AlignmentHeads
from esans_core.clusters.codebooks import Codebooks
from jobs.base.places import local_draft, local_file

_WEIGHTS, _ABOUT = "codebooks.safetensors", "codebooks.json"


def save_codebooks(folder: UPath, heads: AlignmentHeads, codebooks: Codebooks, about: dict[str, Any]) -> None:
    """Write both, and `about` (JSON values) beside them. The same values give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    # Without safetensors metadata, because its entries are written in an order that changes from run to run.
    with local_draft(folder / _WEIGHTS) as file:
        save_file(heads.to_arrays() | codebooks.to_arrays(), file)
    about = {"modalities": list(heads.input_dims), "input_dims": heads.input_dims} | about
    (folder / _ABOUT).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")


def load_codebooks(folder: UPath) -> tuple[AlignmentHeads, Codebooks, dict[str, Any]]:
    """Read what `save_codebooks` wrote."""
    about = json.loads((folder / _ABOUT).read_text())
    with local_file(folder / _WEIGHTS) as file:
        arrays = load_file(file)
    return AlignmentHeads.from_arrays(arrays, about["modalities"]), Codebooks.from_arrays(arrays), about
