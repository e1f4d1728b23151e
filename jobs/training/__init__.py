"""The two models of a day: their data, epochs, checkpoints, and the trained towers on disk.

May import: base, lake, step, shop, clusters.
"""
