"""What makes a function a step: its command line, record and exit status, when it is reused, its workers.

May import: base, lake.
"""
