"""Statistics of the embedded shops beside those of real logs, to see whether the shops' logs look real."""
