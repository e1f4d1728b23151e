"""The command that writes the candidates of every user."""

from jobs.base.settings import PipelineSettings
from jobs.ranking.candidates import model_in_force, run
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job


def _model(settings: PipelineSettings) -> dict[str, str]:
    """The name of the model, which stands for its content, because a version of a registry never changes."""
    return {"model": f"{settings.tracking_uri} {settings.registry.model_name} {model_in_force(settings)}"}


if __name__ == "__main__":
    recipe = Recipe(
        sections=("candidates",),
        reads=("sequences", "users", "items", "stock", "visual_features", "text_features", "behaviour_features", "challenger"),
        writes=("candidates",),
        further=_model,
    )
    run_job("candidates", run, recipe=recipe)
