"""Finds and registers versions in the model registry, among them the one that a date's challenger competes with."""

import datetime as dt
import logging
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import LOGICAL_DATE, RUN_KEY, client
from jobs.serving.store import ServingStore

log = logging.getLogger(__name__)

CHAMPION = "champion"
MODEL_DIGEST = "esans.model_digest"  # on a version: digest of the table `challenger` from which it was registered
REPLACED = "esans.replaced_version"  # on a champion: the champion of an earlier date that it was compared with, if any
MAX_TEXT = 5000  # characters that the registry's tables hold in a description or a tag
VALIDATION_STATUS = "validation_status"  # on a version: what its judgement found, or that it is pending
TRAINED = "artifacts/model"  # where the files of a version have the trained towers
_SERVED_WITH = ("mlflow", "torch", "faiss-cpu", "numpy", "pandas", "pyarrow")
_REPOSITORY = Path(__file__).resolve().parents[2]
# MLflow takes types and defaults from these. From an empty list it would guess a wrong type, and "" is the id of no item.
_ASKED_BY_DEFAULT = {"strict": False, "exclude": [""], "filter": "", "users": "", "unwanted": "", "popularity": 1.0}
_DATABASE = "sqlite"
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


def champion_version(settings: PipelineSettings) -> ModelVersion | None:
    """The version with the alias `champion`, or else the version of the bundle in force; None if there is neither.

    Anybody can delete an alias in MLflow. That says nothing about the model that serves.
    """
    served = ServingStore.of(settings).current() if knows_bundle_in_force(settings) else None
    return aliased_version(settings) or version_of(settings, served)


def aliased_version(settings: PipelineSettings) -> ModelVersion | None:
    """The version that carries the alias `champion` now, or None."""
    model = registered_model(settings)
    number = None if model is None else model.aliases.get(CHAMPION)
    return None if number is None else client(settings).get_model_version(settings.registry.model_name, str(number))


def registered_model(settings: PipelineSettings) -> RegisteredModel | None:
    """The registered model, or None if the registry has none of this name."""
    try:
        return client(settings).get_registered_model(settings.registry.model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def lost_champion(settings: PipelineSettings) -> str | None:
    """The bundle in force if no version carries the alias, and the registry has lost the bundle's version; else None."""
    current = ServingStore.of(settings).current()
    return current if knows_bundle_in_force(settings) and champion_version(settings) is None else None


def knows_bundle_in_force(settings: PipelineSettings) -> bool:
    """Whether there is a bundle in force that this registry must know, because it was published from it.

    A home may have two registries: the SQLite database of `make run`, and the server of `make up`. What `make run` has
    published does not bind the server. What the server has published binds `make run`, which must not replace it.
    """
    history = ServingStore.of(settings).history()
    return bool(history) and not (history[-1].get("registry") == _DATABASE != settings.registry_kind)


def version_of(settings: PipelineSettings, bundle: str | None) -> ModelVersion | None:
    """The version that a bundle in the store was made of, or None if the registry does not have it.

    It is found by the run key and the date that the bundle names. A number may be that of another model by now, if somebody
    renamed or deleted the registered model.
    """
    if bundle is None:
        return None
    about = ServingStore.of(settings).about(bundle)
    return find_version(settings, about["run_key"], about["date"])


def version_number(bundle: str) -> str:
    """Number of the version that a bundle was made of.

    >>> version_number("2026-01-28-v3-0123abcd")
    '3'
    """
    return bundle.rsplit("-", 2)[1].removeprefix("v")


def incumbent_version(settings: PipelineSettings) -> ModelVersion | None:
    """The champion that a model of this logical date competes with, or None for the first model.

    It is the latest champion of an earlier date. It is found by going back from the present champion, along the version that
    each one replaced. So a rerun of a date has the same opponent as its first run, even if that run's model is champion now.
    """
    line = champion_line(settings, champion_version(settings))
    return next((version for version in line if version_date(version) < settings.date), None)


def champion_line(settings: PipelineSettings, version: ModelVersion | None) -> Iterator[ModelVersion]:
    """A champion, then the champion that it was compared with, and so on; each has an earlier date than the one before."""
    while version is not None:
        yield version
        before = numbered_version(settings, version.tags.get(REPLACED, ""))
        if before is not None and version_date(before) >= version_date(version):
            log.warning("version %s says it replaced a later one; the line of champions ends there", version.version)
            return
        version = before


def version_date(version: ModelVersion) -> dt.date:
    """Logical date of the data that a version was made from; the earliest possible date if it has none."""
    return dt.date.fromisoformat(version.tags.get(LOGICAL_DATE, dt.date.min.isoformat()))


def find_version(settings: PipelineSettings, run_key: str, date: str | None = None) -> ModelVersion | None:
    """The first version registered for a run key and a date (YYYY-MM-DD; by default the logical date), or None."""
    registry, name = client(settings), settings.registry.model_name
    found = registry.search_model_versions(
        f"name = '{name}' AND tags.`{RUN_KEY}` = '{run_key}' AND tags.`{LOGICAL_DATE}` = '{date or settings.ds}'"
    )
    return min(found, key=lambda version: int(version.version), default=None)


def download_version(version: ModelVersion, settings: PipelineSettings) -> Path:
    """Folder with a version's trained towers: towers.safetensors, model.json, item_ids.parquet."""
    return download_artifact(version, settings, TRAINED)


def download_artifact(version: ModelVersion, settings: PipelineSettings, path: str) -> Path:
    """A file or folder of a version, on this machine. A store on this machine gives its own files, not a copy."""
    uri = client(settings).get_model_version_download_uri(version.name, version.version)
    return Path(mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{path}"))


def register_version(
    settings: PipelineSettings,
    bundle: Path,
    trained: Path,
    *,
    run_key: str,
    tags: Mapping[str, str],
    description: str,
) -> tuple[ModelVersion, bool]:
    """Log a serving bundle as a pyfunc to the current MLflow run and register it, unless that was done before.

    It is a model from code: MLflow runs `jobs/serving/pyfunc_model.py` with a copy of the library beside it. So loading it
    needs neither the project nor pickle.

    Args:
        settings: gives the registered model's name and the logical date.
        bundle: folder named `bundle`, which `jobs.serving.bundle.build_bundle` wrote.
        trained: folder named `model`, with the files of this model that a later training or evaluation reads.
        run_key: hash of all that decides the model. With the logical date it identifies the version.
        tags: further tags of the version.
        description: the model card (Markdown, at most `MAX_TEXT` characters are kept).

    Returns:
        The version, and whether it is new.
    """
    found = find_version(settings, run_key)
    if found is not None:
        return found, False
    registry, name = client(settings), settings.registry.model_name
    logged = mlflow.pyfunc.log_model(
        name=name,
        python_model=str(_REPOSITORY / "jobs" / "serving" / "pyfunc_model.py"),
        artifacts={"bundle": str(bundle), "model": str(trained)},
        code_paths=[str(_REPOSITORY / "esans_core")],
        input_example=([["an item id", "a later one"], []], {"k": settings.bundle.k, **_ASKED_BY_DEFAULT}),
        model_config={"serving_folder": str(settings.serving_root)},
        # Given here, because MLflow would otherwise load the model in another process to find out.
        pip_requirements=[f"{package}=={installed(package).split('+')[0]}" for package in _SERVED_WITH],
    )
    try:
        registry.create_registered_model(name, description="Two-tower retrieval trained with ESANS negatives.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    version = registry.create_model_version(
        name,
        source=logged.model_uri,
        run_id=logged.run_id,
        model_id=logged.model_id,
        tags={key: value[:MAX_TEXT] for key, value in tags.items()} | {RUN_KEY: run_key, LOGICAL_DATE: settings.ds},
        description=description[:MAX_TEXT],
    )
    return version, True


def required_version(settings: PipelineSettings, number: str) -> ModelVersion:
    """The version with this number, which a person has named. Raises `DataError` if the registry has none."""
    if (version := numbered_version(settings, number)) is not None:
        return version
    raise DataError(
        f"there is no version {number[:20]!r} of {settings.registry.model_name}.",
        file=settings.tracking_uri,
        remedy="give the number of a version that the registry lists.",
    )


def numbered_version(settings: PipelineSettings, number: str) -> ModelVersion | None:
    """The version with this number, or None if the registry has none."""
    if not _NUMBER.fullmatch(number):
        return None
    try:
        return client(settings).get_model_version(settings.registry.model_name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        log.warning("there is no version %s of %s", number, settings.registry.model_name)
        return None
