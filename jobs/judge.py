"""The command that compares challenger and champion, and signs what was found."""

from jobs.registry.judge import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("judge", run)
