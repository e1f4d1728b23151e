"""The command that begins a run: settings frozen, input found, or the embedded shop's drawn."""

from jobs.source.prepare import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("prepare", run)
