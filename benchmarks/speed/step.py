"""One training step, from forward to optimiser, with real towers: the ESANS draws against as many uniform negatives.

All methods take turns in training the same model with the same AdamW on the same batches, so shared work costs all the same.
"""

import copy
import itertools
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from benchmarks.measure import beside, seconds
from benchmarks.record import Row
from benchmarks.speed.world import NEGATIVES, World, WorldSize
from esans_core import NegativeConfig

PAPER, UNIFORM, ESANS, DEBIASED = "ESANS as in the paper", "uniform, same real negatives", "ESANS", "debiased MNS"
UNIFORM_ENCODED = "uniform, as many items encoded as ESANS"
_PARTS = ("user tower", "sampling", "item tower", "objective without these", "backward", "optimiser")
_BATCHES = 8


@dataclass(frozen=True)
class Size:
    """Attributes: the world, the shared pool of ESANS and of debiased MNS, and measured steps of each method."""

    world: WorldSize
    pool: int
    repeats: int


FULL = Size(WorldSize(), pool=1024, repeats=15)
QUICK = Size(WorldSize(num_items=20_000, num_primary=64, batch=512), pool=512, repeats=5)


class ClockedStep:
    """One method's training step, with a clock on each of its parts.

    Attributes:
        seconds: seconds of each part, one entry for each step.
        encoded: items that the item tower encoded, one entry for each step.
    """

    def __init__(self, world: World, config: NegativeConfig, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.encoded: list[int] = []
        self._world, self._batches = world, itertools.cycle(batches)
        sampler = copy.copy(world.sampler)
        sampler.sample = self._clocked("sampling", sampler.sample)  # type: ignore[method-assign]
        self._objective = world.objective(config, sampler)
        self._part: dict[str, float] = {}

    def __call__(self) -> None:
        """Take one step."""
        model, optimizer = self._world.model, self._world.optimizer
        history, positives = next(self._batches)
        self._part = dict.fromkeys(_PARTS, 0.0)
        users = self._clocked("user tower", model.encode_users)(history)
        start = time.perf_counter()
        loss = self._objective(users, positives, self._clocked("item tower", self._encode_items), self._world.generator)
        inside = self._part["sampling"] + self._part["item tower"]
        self._part["objective without these"] = time.perf_counter() - start - inside
        optimizer.zero_grad(set_to_none=True)
        self._clocked("backward", loss.backward)()
        self._clocked("optimiser", optimizer.step)()
        for part, taken in self._part.items():
            self.seconds[part].append(taken)

    def _encode_items(self, items: Tensor) -> Tensor:
        self.encoded.append(items.numel())
        return self._world.model.encode_items(items)

    def _clocked(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments)
            self._part[part] += time.perf_counter() - start
            return result

        return run


def rows(size: Size, peers: bool = True) -> Iterator[Row]:
    """Step time of each method next to the one it is compared with, and where the time goes; no peers are needed."""
    world = World(size.world)
    batches = [world.batch() for _ in range(_BATCHES)]
    configs = {
        PAPER: NegativeConfig.for_method("esans_paper"),
        UNIFORM: NegativeConfig.for_method("uniform", num_per_positive=NEGATIVES),
        ESANS: NegativeConfig.for_method("esans", num_pool=size.pool),
        DEBIASED: NegativeConfig.for_method("debiased_mns", num_pool=size.pool),
    }
    steps = {name: ClockedStep(world, config, batches) for name, config in configs.items()}
    steps[ESANS]()
    per_positive = draws_for(steps[ESANS].encoded[0], size.world)
    steps[UNIFORM_ENCODED] = ClockedStep(world, NegativeConfig.for_method("uniform", num_per_positive=per_positive), batches)
    taken = seconds(steps, size.repeats)

    def row(subject: str, metric: str, value: float, unit: str = "ms") -> Row:
        return Row(case(size.world), subject, metric, unit, value, size.repeats)

    whole = {name: row(name, "step", 1e3 * median) for name, median in taken.items()}
    part = {
        name: {part: statistics.median(step.seconds[part][-size.repeats :]) for part in _PARTS} for name, step in steps.items()
    }
    learning = {
        name: row(name, "forward and backward", 1e3 * sum(value for part, value in parts.items() if part != "optimiser"))
        for name, parts in part.items()
    }
    for name in (UNIFORM, DEBIASED, UNIFORM_ENCODED):
        yield from (whole[name], learning[name])
    yield beside(whole[PAPER], whole[UNIFORM], "ratio <= 1.10")
    yield beside(learning[PAPER], learning[UNIFORM])
    for peer in (DEBIASED, UNIFORM_ENCODED):
        yield beside(whole[ESANS], whole[peer])
        yield beside(learning[ESANS], learning[peer])
    for name, step in steps.items():
        yield row(name, "samples", size.world.batch / taken[name], "samples/s")
        yield row(name, "items encoded", statistics.mean(step.encoded[-size.repeats :]), "items/step")
        yield from (row(name, f"of which {part}", 1e3 * value) for part, value in part[name].items())


def case(size: WorldSize) -> str:
    """Name of the step in the rows."""
    return f"step: {size.num_items:,} items, batch {size.batch:,}"


def draws_for(encoded: int, size: WorldSize) -> int:
    """How many uniform draws per positive lead to about so many different items to encode, positives included."""
    all_draws = -size.num_items * math.log1p(-min(encoded, size.num_items - 1) / size.num_items)
    return max(1, round(all_draws / size.batch) - 1)
