"""The three views of each item: their encoders, vectors kept from day to day, and the axes of the behavioural view.

May import: base, lake, source.
"""
