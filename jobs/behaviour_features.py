"""The command that learns item vectors from the training events."""

from jobs.features.behaviour_alignment import TABLE
from jobs.features.behaviour_features import run
from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job

if __name__ == "__main__":
    recipe = Recipe(sections=("features",), reads=("interactions", "items"), before=(TABLE,), writes=(TABLE,))
    run_job("behaviour_features", run, recipe=recipe)
