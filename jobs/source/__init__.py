"""What the user brings: read, checked against the data contract, cleaned, split and numbered.

May import: base, lake, shop.
"""
