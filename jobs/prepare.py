"""The command that begins a run: it freezes the settings and finds the input, or draws that of the embedded shop."""

from jobs.source.prepare import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("prepare", run)
