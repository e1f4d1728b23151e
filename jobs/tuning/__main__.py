"""Search for better settings of one date's data: `python -m jobs.tuning`. It proposes; a person decides."""

from jobs.step.runtime import run_job
from jobs.tuning.search import run

if __name__ == "__main__":
    run_job("tuning", run, records="tuning")
