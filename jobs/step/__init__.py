"""All that turns a function into a step: its command line, record, exit status and workers, and when it is reused.

May import: base, lake.
"""
