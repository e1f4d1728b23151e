"""Versions in MLflow's registry: registered, judged, signed, promoted and rolled back.

May import: base, lake, step, gates, serving, pages.
"""
