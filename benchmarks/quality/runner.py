"""Runs trials that are not finished yet, several at a time, and keeps each as one JSON line the moment it is done."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks import trials
from benchmarks.quality.clusters import FOLDER, SIZES, Clusters, fit_clusters, random_clusters
from benchmarks.quality.data import DATA, QualityData
from benchmarks.quality.plan import TUNED_ON, Plan, Runs
from benchmarks.quality.trial import TUNING_SEED, Trial, run_trial
from benchmarks.trials import load_runs, part


def run_all(
    plan: Callable[[Runs], Iterable[Trial]], runs: Runs, path: Path, *, workers: int, device: str, minutes: float
) -> int:
    """Run the unfinished trials of a plan on a device, so many at a time (`benchmarks.trials.run_all`)."""

    def tell(trial: Trial, result: dict[str, Any]) -> str:
        return (
            f"{trial.data} {trial.method} seed {trial.seed} {trial.settings}: validation recall@50 "
            f"{result['validation']['recall_50']:.4f}, best epoch {result['best_epoch']}, {result['seconds']:.0f} s"
        )

    needs = " (a trial of shop-1m takes 7 GB)"
    run = partial(_run, device=device)
    return trials.run_all(plan, runs, path, run=run, tell=tell, workers=workers, minutes=minutes, needs=needs)


def plan_of(name: str) -> Plan:
    """The plan of a prepared data set."""
    source, data = TUNED_ON.get(name), load_data(name)
    return Plan(name, data.digest(), (source, load_data(source).digest()) if source else None, tuple(data.views))


def keep_plan(plan: Plan, folder: Path) -> None:
    """Keep the inputs of a plan next to its runs, so that they can be reported on a machine without the data."""
    trials.keep_plan(folder, plan.data, asdict(plan))


def kept_plan(name: str, folder: Path) -> Plan:
    """The plan from which a data set's runs were made."""
    fields = trials.kept_plans(folder)[name]
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


def _run(trial: Trial, device: str) -> dict[str, Any]:
    data = load_data(trial.data)
    holdout = trial.seed != TUNING_SEED
    return run_trial(trial, data, clusters_of(data, trial.settings), device=device, holdout=holdout)
