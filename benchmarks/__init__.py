"""Measurements. Results are JSON files in `results/`; every number in the README and in docs/results comes from one of them."""
