"""Reads and writes what MLflow keeps of a version: its files, and signed records among the artefacts of its run."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from jobs.base.errors import DataError
from jobs.base.files import file_digest
from jobs.base.scratch import scratch_in
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import RUN_KEY, client

_FOLDER = "gate_report"
_RUN_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")
_WRITTEN_ON_DOWNLOAD = "registered_model_meta"  # MLflow's client writes this beside the files of the version


@contextmanager
def version_copy(settings: PipelineSettings, version: ModelVersion) -> Iterator[Path]:
    """A copy of a version's files. It exists while the block runs, and nobody else changes it."""
    uri = client(settings).get_model_version_download_uri(version.name, version.version)
    with scratch_in(settings.home) as scratch:
        yield Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(scratch)))


def files_of(copy: Path) -> dict[str, str]:
    """SHA-256 of every file in the copy of a version, by its path in the copy.

    Bytecode is left out, because Python writes it beside the code of a model that is loaded from a store of this machine.
    """
    files = (path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != _WRITTEN_ON_DOWNLOAD)
    kept = (path for path in files if not (path.suffix == ".pyc" and path.parent.name == "__pycache__"))
    return {path.relative_to(copy).as_posix(): file_digest(path) for path in kept}


def read_record(settings: PipelineSettings, version: ModelVersion, name: str) -> bytes | None:
    """A record of a version, or None if there is none. If the server cannot be reached, that is another error."""
    registry, path = client(settings), _path(version, name)
    if not version.run_id:
        return None
    try:
        present = [entry.path for entry in registry.list_artifacts(version.run_id, _FOLDER)]
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None  # the run is gone
    if path not in present:
        return None
    with TemporaryDirectory() as scratch:
        return Path(registry.download_artifacts(version.run_id, path, scratch)).read_bytes()


def write_record(settings: PipelineSettings, version: ModelVersion, name: str, text: str) -> None:
    """Write a record of a version.

    Raises:
        DataError: the version belongs to no run.
    """
    if not version.run_id:
        raise DataError("belongs to no run that could keep its records.", file=said(version), remedy="register it again.")
    client(settings).log_text(version.run_id, text, _path(version, name))


def said(version: ModelVersion) -> str:
    """The words for a version in messages."""
    return f"version {version.version} of {version.name}"


def _path(version: ModelVersion, name: str) -> str:
    run_key = version.tags.get(RUN_KEY, "")
    if not _RUN_KEY.fullmatch(run_key):
        raise DataError(
            f"its tag {RUN_KEY} is {run_key!r}, which this pipeline did not write.",
            file=said(version),
            remedy="promote a version that the pipeline registered.",
        )
    return f"{_FOLDER}/{run_key}.json" if name == "report" else f"{_FOLDER}/{run_key}.{name}.json"
