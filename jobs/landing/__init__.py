"""The input in the shape in which its owner keeps it: found, read by its own format, mapped, and landed in one form.

May import: base.
"""
