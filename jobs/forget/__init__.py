"""A person's right to be forgotten: one user is removed from all that a home keeps, and what cannot be rewritten is listed.

May import: base, lake, step, landing, serving, registry.
"""
