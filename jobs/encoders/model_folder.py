"""Model folders: loading one, and what an encoder is as one short hash (vectors compare only under equal fingerprints)."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs.errors import DataError
from jobs.lake import file_digest


def config_fingerprint(kind: str, config: dict[str, Any]) -> str:
    """`kind-` and 16 hex digits over a JSON-able configuration."""
    return f"{kind}-{hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]}"


def model_fingerprint(kind: str, folder: Path, config: dict[str, Any]) -> str:
    """Fingerprint of a model folder: the content of all its files (weights, tokenizer, preprocessing) and our own settings.

    Raises:
        DataError: the folder is missing, or holds no `config.json` and safetensors weights.
    """
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise DataError(
            "holds no transformers model (config.json and *.safetensors).",
            file=folder,
            remedy="give a local folder written by save_pretrained(), or 'embedded'; nothing is downloaded.",
        )
    contents = {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    return config_fingerprint(kind, {"files": contents, **config})


@contextmanager
def loading_model(folder: Path, kind: str, *, together_with: str) -> Iterator[None]:
    """Load parts of a transformers model in here: whatever a damaged folder raises becomes one clear `DataError`.

    Args:
        folder: the model folder.
        kind: `vision` or `text`.
        together_with: what belongs beside the model in the folder.
    """
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # OSError, ValueError, KeyError, SafetensorError, ...
        raise DataError(
            f"cannot be loaded as a {kind} model ({type(error).__name__}: {str(error).splitlines()[0]}).",
            file=folder,
            column=f"features.{'visual' if kind == 'vision' else kind}_encoder",
            remedy=f"write it again with save_pretrained(), together with its {together_with}.",
        ) from error
