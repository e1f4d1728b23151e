"""Serving bundles: built from a trained model, checked, and kept on disk for production.

May import: base, lake, training.
"""
