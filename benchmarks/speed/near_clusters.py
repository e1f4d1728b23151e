"""The sampler's tables and throughput against the number of primary clusters K_p: a bounded table against all pairs.

The peer is the dense table over all pairs of clusters, which takes 12 K_p^2 bytes. If it does not fit, it is left out.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from benchmarks.measure import beside, judged, seconds
from benchmarks.record import Row
from esans_core.cluster_index import ClusterIndex
from esans_core.sampler import SemanticNegativeSampler

OURS, DENSE = "nearest within 64 MB", "all pairs"
_SECONDARY, _CODE_DIM, _POOL = 4, 64, 2048


@dataclass(frozen=True)
class Size:
    """How much to measure.

    Attributes:
        clusters: K_p of each case.
        largest_dense: largest K_p at which the dense table is made.
        items_per_cluster: items of the catalogue for each primary cluster.
        batch: positives of one call.
        repeats: repeats of each measurement.
    """

    clusters: tuple[int, ...] = (256, 4096, 65_536)
    largest_dense: int = 4096
    items_per_cluster: int = 50
    batch: int = 4096
    repeats: int = 9


FULL = Size()
QUICK = Size(clusters=(256, 4096), repeats=5)


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """Memory, time to build, negatives per second and the time of the counts of a batch; no peers are needed."""
    for num_primary in size.clusters:
        yield from _rows_of(num_primary, size)


def _rows_of(num_primary: int, size: Size) -> Iterator[Row]:
    case = f"near_clusters: {num_primary:,} primary clusters"
    num_items = num_primary * size.items_per_cluster
    generator = torch.Generator().manual_seed(num_primary)
    primary, secondary = (torch.randint(codes, (num_items,), generator=generator) for codes in (num_primary, _SECONDARY))
    index = ClusterIndex.from_labels(primary, secondary, num_primary)
    centroids = torch.nn.functional.normalize(torch.randn(num_primary, _CODE_DIM, generator=generator), dim=1)
    made, build = {}, {}
    for subject, kept in {OURS: None, DENSE: num_primary}.items():
        if subject == OURS or num_primary <= size.largest_dense:
            start = time.perf_counter()
            made[subject] = SemanticNegativeSampler(index, centroids, max_near_clusters=kept)
            build[subject] = time.perf_counter() - start
    positives = torch.randint(num_items, (size.batch,), generator=generator)
    pool = torch.randint(num_items, (_POOL,), generator=generator)
    taken = seconds(
        {(subject, "draws"): (lambda one=one: one.sample(positives, generator)) for subject, one in made.items()}
        | {(subject, "counts"): (lambda one=one: one.batch_expected_counts(positives, pool)) for subject, one in made.items()},
        size.repeats,
    )
    drawn = size.batch * made[OURS].num_draws
    for metric, unit, values in (
        ("memory", "MB", {subject: one.near_bytes / 1e6 for subject, one in made.items()}),
        ("throughput", "negatives/s", {subject: drawn / taken[subject, "draws"] for subject in made}),
        ("time for the counts of a batch", "ms", {subject: 1e3 * taken[subject, "counts"] for subject in made}),
        ("time to build", "s", build),
    ):
        found = {subject: Row(case, subject, metric, unit, value, size.repeats) for subject, value in values.items()}
        ours = judged(found[OURS], "value <= 65") if metric == "memory" else found[OURS]
        if DENSE in found:
            yield found[DENSE]
            ours = beside(found[OURS], found[DENSE], "value <= 65" if metric == "memory" else None)
        yield ours
    yield Row(case, OURS, "clusters kept for each", "clusters", made[OURS].num_near_clusters)
