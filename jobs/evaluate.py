"""The command that evaluates the day's models on one hold-out."""

from jobs.ranking.evaluate import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("evaluate", run)
