"""The command that writes the training set: each user's events in the order of time."""

from jobs.step.reuse import Recipe
from jobs.step.runtime import run_job
from jobs.training.build_training_set import run

if __name__ == "__main__":
    recipe = Recipe(reads=("interactions", "users"), writes=("sequences",))
    run_job("build_training_set", run, recipe=recipe)
