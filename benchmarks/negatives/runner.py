"""Runs the missing trials of a comparison, and reads the finished ones."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import trials
from benchmarks.negatives.contenders import CONTENDERS, SEEDS
from benchmarks.published.logs import log_of
from benchmarks.published.prepare import prepared
from benchmarks.published.trial import Trial, run_trial
from benchmarks.trials import Runs, load_runs


def planned(log: str, digest: str, names: Sequence[str] = tuple(CONTENDERS), seeds: Sequence[int] = SEEDS) -> list[Trial]:
    """The trials of a log: seed by seed, all contenders, so that a run that is cut short has compared some seeds whole."""
    found = [(seed, CONTENDERS[name]) for seed in seeds for name in names]
    return [Trial(log, digest, contender.method, contender.settings, seed) for seed, contender in found]


def run_missing(
    log: str, folder: Path, kept: Path, names: Sequence[str], seeds: Sequence[int], *, workers: int, minutes: float
) -> int:
    """Run the trials of a log that are not finished; how many were run.

    Args:
        log: name of the log.
        folder: folder with the public logs.
        kept: folder of the JSON lines.
        names: some of `CONTENDERS`.
        seeds: seeds wanted.
        workers: trials at a time, one thread each.
        minutes: time after which no trial is started.
    """
    wanted, path = planned(log, prepared(log, folder).digest(), names, seeds), kept / f"{log}.jsonl"
    trials.keep_plan(kept, log, {"digest": wanted[0].digest})
    runs = load_runs(path)
    print(f"{log}: {sum(trial.key in runs for trial in wanted)} of {len(wanted)} trials are finished", flush=True)
    run = partial(_run, folder=folder)
    return trials.run_all(lambda _: wanted, runs, path, run=run, tell=_told, workers=workers, minutes=minutes)


def finished(log: str, kept: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The finished runs of each contender, by seed; nothing of a log that was never run."""
    plans = trials.kept_plans(kept)
    if log in plans:
        runs: Runs = load_runs(kept / f"{log}.jsonl")
        for name in CONTENDERS:
            found = [runs[trial.key] for trial in planned(log, plans[log]["digest"], [name]) if trial.key in runs]
            if found:
                yield name, found


def _told(trial: Trial, result: dict[str, Any]) -> str:
    title = next(each.title for each in CONTENDERS.values() if (each.method, each.settings) == (trial.method, trial.settings))
    main = log_of(trial.data).main
    return f"{trial.data} seed {trial.seed} {title}: {main} {result['test'][main]:.4f}, {result['seconds']:.0f} s"


def _run(trial: Trial, folder: Path) -> dict[str, Any]:
    return run_trial(trial, prepared(trial.data, folder))
