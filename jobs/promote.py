"""The command that carries out the verdict of the date: it promotes the challenger or leaves the champion."""

from jobs.registry.promote import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("promote", run)
