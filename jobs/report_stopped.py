"""The command that writes the pages of a date whose run has failed; the step `report` is never reached then."""

from jobs.report.__main__ import run
from jobs.step.runtime import run_job

if __name__ == "__main__":
    run_job("report_stopped", run, recorded=False)
