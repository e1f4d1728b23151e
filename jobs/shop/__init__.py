"""The embedded shop: a small multimodal catalogue with dated events, drawn from a hidden world.

May import: base, lake.
"""
