"""Runs trials that are not finished yet, several at a time, and keeps each as one JSON line the moment it is done."""

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.quality.clusters import FOLDER, SIZES, Clusters, fit_clusters, random_clusters
from benchmarks.quality.data import DATA, QualityData
from benchmarks.quality.trial import Trial, part, run_trial


def run_all(
    trials: Iterable[Trial], path: Path, *, workers: int, device: str, holdout: bool, minutes: float, finished: Iterable[str]
) -> int:
    """Run what is not finished; stop starting new trials when the time is up.

    Args:
        trials: what should be finished, most wanted first.
        path: file of JSON lines that results are added to.
        workers: processes, one thread each (on a GPU: one process).
        device: where each trains.
        holdout: whether the hold-out is scored.
        minutes: time after which no trial is started.
        finished: keys of finished trials.

    Returns:
        How many trials were run.
    """
    known = set(finished)
    waiting = iter([trial for trial in trials if trial.key not in known])
    deadline, done = time.monotonic() + 60 * minutes, 0
    path.parent.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
        running: dict[Future[dict[str, Any]], Trial] = {}
        while True:
            free = workers - len(running) if time.monotonic() < deadline else 0
            running |= {pool.submit(_run, trial, device, holdout): trial for trial in islice(waiting, free)}
            if not running:
                return done
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                trial, result = running.pop(future), future.result()
                with path.open("a") as file:
                    file.write(json.dumps(result, sort_keys=True) + "\n")
                done += 1
                reached = result["validation"]["recall_50"]
                print(
                    f"{done:4d} {trial.data} {trial.method} seed {trial.seed} {trial.settings}: "
                    f"validation recall@50 {reached:.4f}, best epoch {result['best_epoch']}, {result['seconds']:.0f} s",
                    flush=True,
                )


@cache
def load_data(name: str) -> QualityData:
    """A prepared data set, once in each process."""
    return QualityData.load(DATA / f"{name}.npz")


def clusters_of(data: QualityData, settings: dict[str, Any]) -> Clusters:
    """The clusters that a trial's `clusters.*` settings ask for; they are fitted once and kept."""
    asked = part(settings, "clusters.")
    num_primary, num_secondary = SIZES[data.name]
    clusters = fit_clusters(
        data,
        num_primary=round(num_primary * asked.get("primary_factor", 1.0)),
        num_secondary=round(num_secondary * asked.get("secondary_factor", 1.0)),
        alignment=asked.get("alignment", True),
        views=[view for view in data.views if view != asked.get("without")],
        mean_residual=asked.get("mean_residual", False),
        folder=FOLDER,
    )
    return random_clusters(clusters) if asked.get("random") else clusters


def _start_worker(parent: int) -> None:
    """One thread, and an end when the benchmark ends: an orphan would go on for minutes over a trial that nobody keeps."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _run(trial: Trial, device: str, holdout: bool) -> dict[str, Any]:
    data = load_data(trial.data)
    return run_trial(trial, data, clusters_of(data, trial.settings), device=device, holdout=holdout)
