"""Negatives per second against the size of the catalogue, and the memory that the sampler takes.

Clusters, secondary clusters and popularity are skewed. Positives are uniform over the catalogue, which is hardest for caches.
"""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measure import beside, judged, seconds
from benchmarks.record import Row
from esans_core import ClusterIndex, SemanticNegativeSampler
from esans_core.proposals import PopularityProposal

ESANS, UNIFORM, GATHER = "ESANS sampler", "torch.randint", "torch.randint and a gather"
MULTINOMIAL, CUMULATIVE = "torch.multinomial by popularity", "cumulative popularity and a search"
_NEGATIVES = 15  # m_c m_o + num_hard = 2 * 5 + 5
_MOST_CATEGORIES = 2**24  # torch.multinomial takes no more
_SECONDARY, _CODE_DIM, _EMBEDDING_DIM = 16, 64, 64
_COUNTED_BATCH, _COUNTED_POOL = 1024, 2048  # a batch against its in-batch and pool negatives


@dataclass(frozen=True)
class Size:
    """How much to measure.

    Attributes:
        catalogue: items -> primary clusters.
        recbole_items: catalogue at which RecBole is measured; its alias table takes minutes for a million items.
        growth: a smaller and a larger catalogue; between them, the cost of a negative may grow only because of caches.
        batch: positives of one call.
        batches: calls of one repeat.
        repeats: repeats of each measurement.
    """

    catalogue: dict[int, int]
    recbole_items: int
    growth: tuple[int, int]
    batch: int = 4096
    batches: int = 8
    repeats: int = 7


FULL = Size({10**4: 32, 10**5: 96, 10**6: 320, 10**7: 1024}, 10**6, (10**5, 10**7))
QUICK = Size({10**4: 32, 10**5: 96, 10**6: 320}, 10**5, (10**5, 10**6), repeats=5)


@dataclass(frozen=True)
class Catalogue:
    """One synthetic catalogue, its sampler, batches of positives [B] and popularity, float32 [N]."""

    sampler: SemanticNegativeSampler
    positives: list[Tensor]
    popularity: Tensor
    build_seconds: float


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """Throughput, growth, memory and the closed-form counts; with RecBole if the peers are installed."""
    catalogues = {num_items: catalogue(num_items, num_primary, size) for num_items, num_primary in size.catalogue.items()}
    rates = yield from throughput(catalogues, size)
    yield from _growth(rates, size)
    for num_items, made in catalogues.items():
        yield from _memory(num_items, made)
        yield from _expected_counts(num_items, made, size)
    if peers:
        yield from _recbole(catalogues[size.recbole_items], size)


def catalogue(num_items: int, num_primary: int, size: Size, device: torch.device | str = "cpu") -> Catalogue:
    """A catalogue on a device, with skewed clusters: the largest is about ten times the middle one."""
    generator = torch.Generator().manual_seed(num_items)
    primary, secondary = (_skewed_labels(num_items, codes, generator) for codes in (num_primary, _SECONDARY))
    centroids = torch.nn.functional.normalize(torch.randn(num_primary, _CODE_DIM, generator=generator), dim=1)
    start = time.perf_counter()
    index = ClusterIndex.from_labels(primary.to(device), secondary.to(device), num_primary)
    sampler = SemanticNegativeSampler(index, centroids)
    build_seconds = time.perf_counter() - start
    positives = list(torch.randint(num_items, (size.batches, size.batch), generator=generator).to(device))
    popularity = 1 / (torch.randperm(num_items, generator=generator) + 10.0)
    return Catalogue(sampler, positives, (popularity / popularity.sum()).to(device), build_seconds)


def case(num_items: int) -> str:
    """Name of a catalogue size in the rows."""
    return f"sampler: {num_items:,} items"


def _skewed_labels(num_items: int, num_codes: int, generator: torch.Generator) -> Tensor:
    weight = torch.randn(num_codes, generator=generator).exp()
    return torch.multinomial(weight, num_items, replacement=True, generator=generator)


def throughput(
    catalogues: dict[int, Catalogue], size: Size, synchronize: Callable[[], object] | None = None
) -> Generator[Row, None, dict[tuple[str, int], Row]]:
    """Rows of every subject at every size; the subjects take turns. Returns the rows by subject and size."""
    actions = {}
    for num_items, made in catalogues.items():
        for subject, draw in subjects(made).items():
            actions[subject, num_items] = _per_batch(draw, made.positives)
    taken = seconds(actions, size.repeats, synchronize=synchronize)
    drawn = size.batches * size.batch * _NEGATIVES
    found = {
        (subject, num_items): _rate(num_items, subject, drawn / median, size.repeats)
        for (subject, num_items), median in taken.items()
    }
    for (subject, num_items), row in found.items():
        yield beside(row, found[UNIFORM, num_items]) if subject == ESANS else row
    return found


def subjects(made: Catalogue) -> dict[str, Callable[[Tensor], object]]:
    """Actions, each of which draws 15 negatives for every positive of a batch."""
    index, num_items, device = made.sampler.index, made.sampler.index.num_items, made.sampler.index.device
    generator = torch.Generator(device).manual_seed(0)
    cumulative = PopularityProposal(made.popularity, 1.0)
    subjects: dict[str, Callable[[Tensor], object]] = {
        ESANS: lambda batch: made.sampler.sample(batch, generator),
        UNIFORM: lambda batch: torch.randint(num_items, (len(batch), _NEGATIVES), generator=generator, device=device),
        GATHER: lambda batch: index.order[
            torch.randint(num_items, (len(batch), _NEGATIVES), generator=generator, device=device)
        ],
        CUMULATIVE: lambda batch: cumulative.draw((len(batch), _NEGATIVES), generator),
    }
    if num_items <= _MOST_CATEGORIES:
        subjects[MULTINOMIAL] = lambda batch: torch.multinomial(
            made.popularity, len(batch) * _NEGATIVES, replacement=True, generator=generator
        )
    return subjects


def _per_batch(draw: Callable[[Tensor], object], batches: list[Tensor]) -> Callable[[], object]:
    return lambda: [draw(batch) for batch in batches]


def _rate(num_items: int, subject: str, rate: float, repeats: int) -> Row:
    return Row(case(num_items), subject, "throughput", "negatives/s", rate, repeats)


def _growth(rates: dict[tuple[str, int], Row], size: Size) -> Iterator[Row]:
    """Cost of one negative at the larger catalogue over that at the smaller one, next to the same ratio of a plain gather."""
    small, large = size.growth
    growth = {
        subject: Row(
            f"sampler: {small:,} to {large:,} items",
            subject,
            "growth of the cost per negative",
            "times",
            rates[subject, small].value / rates[subject, large].value,
            size.repeats,
        )
        for subject in (ESANS, GATHER)
    }
    yield growth[GATHER]
    yield beside(growth[ESANS], growth[GATHER], "ratio <= 1.25")


def _memory(num_items: int, made: Catalogue) -> Iterator[Row]:
    index = made.sampler.index
    yield judged(Row(case(num_items), "cluster index", "memory", "bytes/item", index.nbytes / num_items), "value <= 24")
    yield Row(case(num_items), "the sampler's own tables", "memory", "bytes/item", made.sampler.nbytes / num_items)
    yield Row(case(num_items), ESANS, "time to build", "s", made.build_seconds)


def _expected_counts(num_items: int, made: Catalogue, size: Size) -> Iterator[Row]:
    """The counts of the logQ correction, next to the matrix product that scores the same pairs."""
    batch, pool = torch.randint(num_items, (_COUNTED_BATCH,)), torch.randint(num_items, (_COUNTED_POOL,))
    users, items = torch.randn(_COUNTED_BATCH, _EMBEDDING_DIM), torch.randn(_COUNTED_POOL, _EMBEDDING_DIM)
    taken = seconds(
        {
            "expected_counts": lambda: made.sampler.expected_counts(batch, pool),
            "batch_expected_counts": lambda: made.sampler.batch_expected_counts(batch, pool),
            "scores of the same pairs": lambda: users @ items.T,
        },
        max(size.repeats, 15),
    )
    found = {
        subject: Row(case(num_items), subject, "time for 1,024 positives and 2,048 items", "ms", 1e3 * median, size.repeats)
        for subject, median in taken.items()
    }
    scores = found.pop("scores of the same pairs")
    yield from (beside(row, scores) for row in found.values())
    yield scores


def _recbole(made: Catalogue, size: Size) -> Iterator[Row]:
    """RecBole's samplers as a user calls them, and only its popularity draws, with which the bar compares."""
    from benchmarks.peers.recbole_samplers import recbole_samplers

    num_items = made.sampler.index.num_items
    samplers, build_seconds = recbole_samplers(made.popularity.numpy())
    batch = made.positives[0]
    users = batch.numpy() % samplers["uniform"].user_num
    generator = torch.Generator().manual_seed(0)
    draws_alone = "RecBole popularity, draws alone"
    taken = seconds(
        {
            ESANS: lambda: [made.sampler.sample(each, generator) for each in made.positives],
            "RecBole uniform": lambda: samplers["uniform"].sample_by_user_ids(users, None, _NEGATIVES),
            "RecBole popularity": lambda: samplers["popularity"].sample_by_user_ids(users, None, _NEGATIVES),
            draws_alone: lambda: samplers["popularity"].sampling(size.batch * _NEGATIVES),
        },
        size.repeats,
    )
    drawn = dict.fromkeys(taken, size.batch * _NEGATIVES) | {ESANS: size.batches * size.batch * _NEGATIVES}
    found = {name: _rate(num_items, name, drawn[name] / median, size.repeats) for name, median in taken.items()}
    esans = found.pop(ESANS)
    yield from found.values()
    yield beside(esans, found["RecBole uniform"])
    yield beside(esans, found["RecBole popularity"])
    yield beside(esans, found[draws_alone], "ratio >= 10")
    ours = Row(case(num_items), ESANS, "time to build", "s", made.build_seconds)
    theirs = Row(case(num_items), "RecBole popularity", "time to build", "s", build_seconds)
    yield from (theirs, beside(ours, theirs))
