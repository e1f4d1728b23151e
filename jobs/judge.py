"""The command that compares the challenger with its opponents, and signs the result."""

from jobs.registry.judge import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("judge", run)
