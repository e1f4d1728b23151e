"""The input that the user brings: it is read, checked against the data contract, cleaned, split and numbered.

May import: base, lake, shop, landing.
"""
