"""The command that encodes the pictures of new and changed items."""

from jobs.features.visual_features import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("visual_features", run)
