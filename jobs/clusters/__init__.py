"""The clusters of items: which items they are fitted on, codebooks, labels, and their history.

May import: base, lake.
"""
