"""Runs the trials of a log that are not finished, and keeps what a report needs on a machine without the data."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import trials
from benchmarks.published.logs import LOGS, TIES, log_of
from benchmarks.published.plan import Plan
from benchmarks.published.prepare import prepared
from benchmarks.published.trial import Trial, run_trial
from benchmarks.trials import Runs, load_runs


def plan_of(name: str, folder: Path, **limits: Any) -> Plan:
    """The plan of a log whose data lie in the folder.

    Args:
        name: name of the log.
        folder: folder with the public logs.
        limits: fields of `Plan` that a quick run makes smaller, or another method.
    """
    ties = prepared(name + TIES, folder).digest() if LOGS[name].ties else None
    return Plan(name, prepared(name, folder).digest(), ties, **limits)


def run_missing(
    plan: Plan, folder: Path, kept: Path, stages: Sequence[str], *, workers: int, device: str, minutes: float
) -> int:
    """Run the missing trials of some stages; how many were run.

    Args:
        plan: the plan of a log.
        folder: folder with the public logs.
        kept: folder of the JSON lines.
        stages: some of `STAGES`, in the order wanted.
        workers: trials at a time, one thread each.
        device: `cpu` or `cuda`.
        minutes: time after which no trial is started.
    """
    keep_plan(plan, kept)
    path = kept / f"{plan.log}.jsonl"
    runs = load_runs(path)

    def wanted(runs: Runs) -> Iterator[Trial]:
        for stage in stages:
            yield from plan.trials(stage, runs)

    known = {trial.key for trial in wanted(runs)}
    print(f"{plan.log}: {len(known & runs.keys())} of the {len(known)} trials known by now are finished", flush=True)
    run = partial(_run, folder=folder, device=device)
    return trials.run_all(wanted, runs, path, run=run, tell=_told, workers=workers, minutes=minutes)


def keep_plan(plan: Plan, kept: Path) -> None:
    """Keep the inputs of a plan beside its runs."""
    trials.keep_plan(kept, plan.log, asdict(plan))


def kept_plan(name: str, kept: Path) -> Plan | None:
    """The plan from which a log's runs were made; None if it was never run."""
    plans = trials.kept_plans(kept)
    if name not in plans:
        return None
    lists = {field: tuple(value) for field, value in plans[name].items() if isinstance(value, list)}
    return Plan(**(plans[name] | lists))


def _told(trial: Trial, result: dict[str, Any]) -> str:
    log = log_of(trial.data)
    reached = ", ".join(
        f"{what} {log.main} {result[what][log.main]:.4f}" for what in ("validation", "test", "refit") if what in result
    )
    ended = "given up" if result["given_up"] else f"best epoch {result['best_epoch']} of {len(result['epochs'])}"
    return f"{trial.data} {trial.method} seed {trial.seed} {trial.settings}: {reached}, {ended}, {result['seconds']:.0f} s"


def _run(trial: Trial, folder: Path, device: str) -> dict[str, Any]:
    return run_trial(trial, prepared(trial.data, folder), device=device)
