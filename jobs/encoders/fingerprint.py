"""What an encoder is, as one short hash: vectors of two dates may be compared only if their fingerprints are equal."""

import hashlib
import json
from pathlib import Path
from typing import Any

from jobs.errors import DataError


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
    contents = {}
    for path in sorted(part for part in folder.rglob("*") if part.is_file()):
        with path.open("rb") as stream:
            contents[str(path.relative_to(folder))] = hashlib.file_digest(stream, "sha256").hexdigest()
    return config_fingerprint(kind, {"files": contents, **config})
