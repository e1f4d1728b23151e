"""The command that trains one model of the day, the challenger or the baseline."""

from jobs.step.runtime import run_job
from jobs.training.train import ROLES, run

if __name__ == "__main__":
    run_job("train", run, choice=("which model", ROLES), processes=lambda settings: settings.training.processes)
