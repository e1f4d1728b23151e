"""Which negatives win on the same towers: the paper's few negatives and what others draw, on public logs, with paired tests."""
