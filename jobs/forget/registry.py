"""Takes a user's id out of what MLflow's database says of versions and runs, through its interface, whatever database it is."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import ViewType

from jobs.base.settings import PipelineSettings
from jobs.base.tracking import client
from jobs.forget.texts import UserText

_PAGE = 500
_OWN = "sqlite:///{}/mlflow/mlflow.db"  # the store of a home that was given no other


def has_registry(settings: PipelineSettings) -> bool:
    """Whether there is an MLflow store. If the home's own has never been made, to look at it would make it."""
    return (
        settings.tracking_uri != _OWN.format(settings.home) or Path(settings.tracking_uri.removeprefix("sqlite:///")).exists()
    )


def clean_registry(settings: PipelineSettings, text: UserText) -> tuple[int, list[str]]:
    """Rewrite descriptions and tags of versions, and tags of runs.

    Returns:
        How many were changed, and runs with a parameter that names the user. A parameter can never be changed, so such a run
        has to be deleted.
    """
    registry, name, changed = client(settings), settings.registry.model_name, 0
    for version in registry.search_model_versions(f"name = '{name}'"):
        said = version.description or ""
        if (cleaned := text.without_text(said)) != said:
            registry.update_model_version(name, version.version, cleaned)
            changed += 1
        for key, value in version.tags.items():
            if (cleaned := _sentence(value, text)) != value:
                registry.set_model_version_tag(name, version.version, key, cleaned)
                changed += 1
    runs, found = _clean_runs(registry, text)
    return changed + runs, found


def _clean_runs(registry: MlflowClient, text: UserText) -> tuple[int, list[str]]:
    changed, naming, token = 0, [], None
    experiments = [experiment.experiment_id for experiment in registry.search_experiments(ViewType.ALL)]
    while True:
        page = registry.search_runs(experiments, run_view_type=ViewType.ALL, max_results=_PAGE, page_token=token)
        for run in page:
            for key, value in run.data.tags.items():
                if (cleaned := _sentence(value, text)) != value:
                    registry.set_tag(run.info.run_id, key, cleaned)
                    changed += 1
            if any(_sentence(value, text) != value for value in run.data.params.values()):
                naming.append(run.info.run_id)
        token = page.token
        if not token:
            return changed, naming


def _sentence(value: str, text: UserText) -> str:
    """A value without the id. A single word is a key, a state or a digest, which must stay as it is."""
    return text.without_text(value) if any(mark in value for mark in " \n\t") else value
