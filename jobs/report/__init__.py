"""The report of a run: a page with pictures (`python -m jobs.report`), and the summary printed at the end of a run."""
