"""The command that writes the page on which a person approves or rejects a version."""

from jobs.report.review_page import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("review", run)
