"""Negative sampling, clusters, towers and losses of ESANS, for anybody's training loop (torch and numpy only)."""
