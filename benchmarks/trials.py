"""What every benchmark of trainings shares: a trial has a key, runs in a process of its own, and is kept as one JSON line.

A benchmark brings its own trials and says how one is run. A finished trial is found again by its key, so a benchmark can go on
where it stopped.
"""

import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

# Workers keep the memory of one step for the next, because asking the system for it again takes a tenth of a step.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 31), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
_PLANS = "plans.json"

Runs = Mapping[str, dict[str, Any]]


class AnyTrial(Protocol):
    """What the runner must know of a trial."""

    @property
    def data(self) -> str:
        """Name of the data set."""
        ...

    @property
    def method(self) -> str:
        """Name of the method in the library."""
        ...

    @property
    def key(self) -> str:
        """Names everything that decides the result."""
        ...


TrialT = TypeVar("TrialT", bound=AnyTrial)


def hashed(parts: Any) -> str:
    """16 hex digits that name a trial by all that decides its result, as JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def part(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The settings below a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in settings.items() if name.startswith(prefix)}


def load_runs(path: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by key, from a file of JSON lines; none if there is no file."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {run["key"]: run for run in map(json.loads, lines)}


def kept_plans(folder: Path) -> dict[str, Any]:
    """The inputs of all plans that are kept beside their runs, by the name of the data set."""
    path = folder / _PLANS
    return json.loads(path.read_text()) if path.exists() else {}


def keep_plan(folder: Path, name: str, plan: dict[str, Any]) -> None:
    """Keep the inputs of a plan beside its runs, so that they can be reported on a machine without the data."""
    plans, path = kept_plans(folder) | {name: plan}, folder / _PLANS
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(plans, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)


def run_all(
    plan: Callable[[Runs], Iterable[TrialT]],
    runs: Runs,
    path: Path,
    *,
    run: Callable[[TrialT], dict[str, Any]],
    tell: Callable[[TrialT, dict[str, Any]], str],
    workers: int,
    minutes: float,
    needs: str = "",
) -> int:
    """Run the unfinished trials of a plan; start no new ones when the time is up.

    Args:
        plan: finished runs -> trials, most wanted first. It is asked again whenever a worker is free, because finished trials
            decide what is tried next.
        runs: finished runs by key.
        path: file of JSON lines to which results are added.
        run: runs one trial; a function of a module, because it is called in another process.
        tell: what a person reads of a finished trial.
        workers: processes, one thread each; several share a GPU.
        minutes: time after which no trial is started.
        needs: what the error says of the memory that a trial needs, such as ` (a trial takes 7 GB)`.

    Returns:
        How many trials were run.

    Raises:
        RuntimeError: a worker was killed.
    """
    runs = dict(runs)
    deadline, done = time.monotonic() + 60 * minutes, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    os.environ.update(_KEEP_MEMORY)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        running: dict[Future[dict[str, Any]], TrialT] = {}
        while True:
            if time.monotonic() < deadline:
                begun = {trial.key for trial in running.values()} | runs.keys()
                waiting = {trial.key: trial for trial in plan(runs) if trial.key not in begun}.values()
                running |= {pool.submit(run, trial): trial for trial in islice(waiting, workers - len(running))}
            if not running:
                return done
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                trial = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool as error:
                    at_work = sorted({trial.method, *(other.method for other in running.values())})  # which died is not known
                    raise RuntimeError(
                        f"One of the processes that trained {', '.join(at_work)} on {trial.data} was killed, most likely "
                        f"because memory ran out{needs}. Run again with fewer --workers: finished trials are kept in {path}."
                    ) from error
                with path.open("a") as file:
                    file.write(json.dumps(result, sort_keys=True) + "\n")
                runs[trial.key] = result
                done += 1
                print(f"{done:4d} {tell(trial, result)}", flush=True)


def _start_worker(parent: int) -> None:
    """Give a worker one thread, and end it with the benchmark: else it would finish a trial for minutes that nobody keeps."""
    import torch

    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
