"""Runs trials that are not finished yet, several at a time, and keeps each as one JSON line the moment it is done."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.clusters import FOLDER, SIZES, Clusters, fit_clusters, random_clusters
from benchmarks.quality.data import DATA, QualityData
from benchmarks.quality.plan import TUNED_ON, Plan, Runs
from benchmarks.quality.trial import TUNING_SEED, Trial, load_runs, part, run_trial

# Workers keep the memory of one step for the next, because asking the system for it again takes a tenth of a step.
_KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 31), "MALLOC_TRIM_THRESHOLD_": str(1 << 33)}
_PLANS = "plans.json"


def run_all(
    plan: Callable[[Runs], Iterable[Trial]], runs: Runs, path: Path, *, workers: int, device: str, minutes: float
) -> int:
    """Run the unfinished trials of a plan; start no new ones when the time is up.

    Args:
        plan: finished runs -> trials, most wanted first. It is asked again whenever a worker is free, because finished trials
            decide what is tried next.
        runs: finished runs by key.
        path: file of JSON lines to which results are added.
        workers: processes, one thread each; several share a GPU.
        device: device on which each trains.
        minutes: time after which no trial is started.

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
        running: dict[Future[dict[str, Any]], Trial] = {}
        while True:
            if time.monotonic() < deadline:
                begun = {trial.key for trial in running.values()} | runs.keys()
                waiting = {trial.key: trial for trial in plan(runs) if trial.key not in begun}.values()
                running |= {pool.submit(_run, trial, device): trial for trial in islice(waiting, workers - len(running))}
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
                        "because memory ran out (a trial of shop-1m takes 7 GB). Run again with fewer --workers: finished "
                        f"trials are kept in {path}."
                    ) from error
                with path.open("a") as file:
                    file.write(json.dumps(result, sort_keys=True) + "\n")
                runs[trial.key] = result
                done += 1
                reached = result["validation"]["recall_50"]
                print(
                    f"{done:4d} {trial.data} {trial.method} seed {trial.seed} {trial.settings}: "
                    f"validation recall@50 {reached:.4f}, best epoch {result['best_epoch']}, {result['seconds']:.0f} s",
                    flush=True,
                )


def plan_of(name: str) -> Plan:
    """The plan of a prepared data set."""
    source, data = TUNED_ON.get(name), load_data(name)
    return Plan(name, data.digest(), (source, load_data(source).digest()) if source else None, tuple(data.views))


def keep_plan(plan: Plan, folder: Path) -> None:
    """Keep the inputs of a plan next to its runs, so that they can be reported on a machine without the data."""
    path = folder / _PLANS
    kept = json.loads(path.read_text()) if path.exists() else {}
    kept[plan.data] = asdict(plan)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    temporary.replace(path)


def kept_plan(name: str, folder: Path) -> Plan:
    """The plan from which a data set's runs were made."""
    fields = json.loads((folder / _PLANS).read_text())[name]
    tuned_on = fields["tuned_on"] and tuple(fields["tuned_on"])
    return Plan(name, fields["digest"], tuned_on, tuple(fields["views"]))


def runs_of(name: str, folder: Path) -> Runs:
    """Finished runs that a data set's plan depends on: its own, and those with which its settings were tuned."""
    return {key: run for data in (TUNED_ON.get(name, name), name) for key, run in load_runs(folder / f"{data}.jsonl").items()}


@cache
def load_data(name: str) -> QualityData:
    """A prepared data set, which each process loads once."""
    return QualityData.load(DATA / f"{name}.npz")


def clusters_of(data: QualityData, settings: dict[str, Any]) -> Clusters:
    """The clusters of a trial's `clusters.*` settings; they are fitted once and kept."""
    asked = part(settings, "clusters.")
    num_primary, num_secondary = SIZES[data.name]
    clusters = fit_clusters(
        data,
        num_primary=round(num_primary * asked.get("primary_factor", 1.0)),
        num_secondary=round(num_secondary * asked.get("secondary_factor", 1.0)),
        alignment=asked.get("alignment", True),
        views=[view for view in data.views if view != asked.get("without")],
        mean_residual=asked.get("mean_residual", False),
        warm_start=asked.get("warm_start", False),
        folder=FOLDER,
    )
    return random_clusters(clusters) if asked.get("random") else clusters


def _start_worker(parent: int) -> None:
    """Give a worker one thread, and end it with the benchmark: else it would finish a trial for minutes that nobody keeps."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(trial: Trial, device: str) -> dict[str, Any]:
    data = load_data(trial.data)
    holdout = trial.seed != TUNING_SEED
    return run_trial(trial, data, clusters_of(data, trial.settings), device=device, holdout=holdout)
