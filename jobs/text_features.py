"""The command that encodes the texts of new and changed items."""

from jobs.base.settings import EMBEDDED, PipelineSettings
from jobs.features.encoders.model_folder import local_model, model_cache, model_digests
from jobs.features.text_features import ENCODER_TABLE, run
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job


def _model(settings: PipelineSettings) -> dict[str, str]:
    name = settings.features.text_encoder
    return {} if name == EMBEDDED else model_digests(local_model(name, model_cache(settings)))


if __name__ == "__main__":
    recipe = Recipe(
        sections=("features",),
        reads=("items",),
        before=("text_features", "text_retired", ENCODER_TABLE),
        writes=("text_features", "text_retired", ENCODER_TABLE),
        further=_model,
    )
    run_job("text_features", run, recipe=recipe)
