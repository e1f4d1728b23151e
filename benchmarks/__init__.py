"""Measurements. Results are JSON files in `results/`, and every number in the README comes from one of them."""
