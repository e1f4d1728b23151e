"""The three views of each item: encoders, vectors kept from day to day, and the axes of behaviour.

May import: base, lake, source.
"""
