"""The search for better settings of a data set: its trials, the proposal, and what a person agrees to.

May import: base, lake, step, training, pages, registry, report.
"""
