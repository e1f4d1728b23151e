"""The sampler and the training step entirely on a GPU: throughput, and whether the CPU ever waits. Needs only torch and numpy.

python -m benchmarks.speed.gpu benchmarks/results/gpu.json
python -m benchmarks.speed.gpu var/bench/gpu.json --batch 16384      # for a GPU with less memory
"""

import argparse
import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.measure import beside, judged, seconds
from benchmarks.record import Row, system
from benchmarks.speed import sampler
from benchmarks.speed.syncs import never_waits, runtime_waits, waiting_places
from benchmarks.speed.world import NEGATIVES, World, WorldSize
from esans_core import NegativeConfig

ESANS, UNIFORM = "ESANS as in the paper", "uniform, same real negatives"
_BATCHES = 4


@dataclass(frozen=True)
class Size:
    """How much to measure.

    Attributes:
        world: world of the training step.
        catalogue: items -> primary clusters, for the measurement of the sampler alone.
        repeats: repeats of each measurement.
        modes: `eager`, `compiled` (both towers and the objective).
    """

    world: WorldSize = WorldSize(num_items=1_000_000, num_primary=320, batch=65_536)
    catalogue: dict[int, int] = field(default_factory=lambda: {10**5: 96, 10**6: 320, 10**7: 1024})
    repeats: int = 9
    modes: tuple[str, ...] = ("eager", "compiled")


class DeviceStep:
    """One method's training step in one precision, on batches that lie on the device."""

    def __init__(self, world: World, config: NegativeConfig, dtype: torch.dtype, mode: str) -> None:
        self._world, self._dtype = world, dtype
        self._objective: Callable[..., Tensor] = world.objective(config)
        self._batches, self._turn = [world.batch() for _ in range(_BATCHES)], 0
        model = world.model
        self._encode_users: Callable[[Tensor], Tensor] = model.encode_users
        self._encode_items: Callable[[Tensor], Tensor] = model.encode_items
        if mode == "compiled":
            self._encode_users = torch.compile(model.encode_users)
            self._encode_items = torch.compile(model.encode_items, dynamic=True)  # the number of different items varies
            self._objective = torch.compile(self._objective)

    def __call__(self) -> None:
        """Take one step."""
        history, positives = self._batches[self._turn % _BATCHES]
        self._turn += 1
        with self._precision():
            users = self._encode_users(history)
            loss = self._objective(users, positives, self._encode_items, self._world.generator)
        self._world.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._world.optimizer.step()

    def _precision(self) -> AbstractContextManager[None]:
        enabled = self._dtype != torch.float32
        return torch.autocast(self._world.device.type, self._dtype if enabled else None, enabled=enabled)


def rows(size: Size, device: torch.device, where: dict[str, dict[str, int]]) -> Iterator[Row]:
    """All rows. It also fills `where` with the places at which the CPU waits, by what was run.

    If the device is not a GPU, the rows about waiting and memory are left out.
    """
    yield from _sampling(size, device, where)
    yield from _steps(size, device, where)


def _sampling(size: Size, device: torch.device, where: dict[str, dict[str, int]]) -> Iterator[Row]:
    batch_size = sampler.Size(size.catalogue, 0, (0, 0), batch=size.world.batch, repeats=size.repeats)
    made = {items: sampler.catalogue(items, primary, batch_size, device) for items, primary in size.catalogue.items()}
    yield from sampler.throughput(made, batch_size, _synchronize(device))
    if device.type == "cuda":
        largest = made[max(made)]
        generator = torch.Generator(device).manual_seed(0)

        def sample() -> None:
            largest.sampler.sample(largest.positives[0], generator)

        yield from _waits(sampler.case(max(made)), sampler.ESANS, sample, where)


def _steps(size: Size, device: torch.device, where: dict[str, dict[str, int]]) -> Iterator[Row]:
    world = World(size.world, device)
    configs = {
        ESANS: NegativeConfig.for_method("esans_paper"),
        UNIFORM: NegativeConfig.for_method("uniform", num_per_positive=NEGATIVES),
    }
    for mode in size.modes:
        for dtype in (torch.float32, torch.bfloat16):
            case = f"step: {size.world.num_items:,} items, batch {size.world.batch:,}, {str(dtype)[6:]}, {mode}"
            steps = {name: DeviceStep(world, config, dtype, mode) for name, config in configs.items()}
            taken = seconds(steps, size.repeats, synchronize=_synchronize(device))
            time = {name: Row(case, name, "step", "ms", 1e3 * value, size.repeats) for name, value in taken.items()}
            yield time[UNIFORM]
            yield beside(time[ESANS], time[UNIFORM], "ratio <= 1.10")
            for name, step in steps.items():
                yield Row(case, name, "samples", "samples/s", size.world.batch / taken[name], size.repeats)
                if device.type == "cuda":
                    yield Row(case, name, "peak memory", "GB", _peak_gigabytes(step))
                    if mode == "eager":
                        yield from _waits(case, name, step, where)


def _waits(case: str, subject: str, action: Callable[[], None], where: dict[str, dict[str, int]]) -> Iterator[Row]:
    places, waits = waiting_places(action), runtime_waits(action)
    where[f"{case}, {subject}"] = places
    yield judged(Row(case, subject, "waits that torch reports", "per call", sum(places.values())), "value <= 0")
    yield Row(case, subject, "runs with waits as errors", "yes or no", float(never_waits(action)))
    yield from (Row(case, subject, f"{name} of the profiler", "per call", count) for name, count in waits.items())


def _peak_gigabytes(action: Callable[[], None]) -> float:
    torch.cuda.reset_peak_memory_stats()
    action()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e9


def _synchronize(device: torch.device) -> Callable[[], object] | None:
    return torch.cuda.synchronize if device.type == "cuda" else None


def main() -> None:
    """Measure on the GPU and write the rows; each row is in the file before the next one begins.

    Raises:
        SystemExit: there is no GPU.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="JSON file to write")
    parser.add_argument("--batch", type=int, default=Size().world.batch, help="positives of one step")
    parser.add_argument("--commit", default="unknown", help="of this code, where there may be no repository to ask")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no CUDA device here; this part of the benchmark is about GPUs")
    device = torch.device("cuda")
    size = Size(world=WorldSize(num_items=1_000_000, num_primary=320, batch=arguments.batch))
    where: dict[str, dict[str, int]] = {}
    command = f"python -m benchmarks.speed.gpu FILE --batch {arguments.batch}"
    head = {"machine": _machine(), "commit": arguments.commit, "date": dt.date.today().isoformat(), "command": command}
    found = []
    for row in rows(size, device, where):
        found.append({key: value for key, value in asdict(row).items() if value is not None})
        print(row.case, row.subject, row.metric, f"{row.value:.4g}", row.unit, row.bar or "", row.holds, sep=" | ", flush=True)
        arguments.file.write_text(json.dumps(head | {"rows": found, "waits": where}, indent=2, sort_keys=True) + "\n")


def _machine() -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(0)
    return {
        "gpu": properties.name,
        "gpu_memory_gb": round(properties.total_memory / 2**30),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        **system(),
    }


if __name__ == "__main__":
    main()
