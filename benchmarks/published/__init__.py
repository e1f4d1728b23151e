"""The library's towers on public logs with the splits of published tables, beside the figures of those tables."""
