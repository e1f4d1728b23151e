"""A look at a source before a run: what it holds, what a run would do with it, and what it would cost (`make check`).

May import: base, lake, landing, source, gates.
"""
