"""Quality benchmark: retrieval quality by negative sampler, on real data and on the embedded shop."""
