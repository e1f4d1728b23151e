"""Which trials answer the benchmark's questions: tuning, then the chosen settings over five seeds, then ablations of ours."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.quality.methods import ABLATIONS, CONTENDERS
from benchmarks.quality.trial import Trial

TUNING_SEED = 0
SEEDS = (1, 2, 3, 4, 5)
STAGES = ("tune", "final", "ablate")
OURS = "esans"
Runs = Mapping[str, dict[str, Any]]


def trials(stage: str, data: str, digest: str, runs: Runs, names: list[str] | None = None) -> Iterator[Trial]:
    """All trials of a stage that can be named by now, finished or not.

    Args:
        stage: one of `STAGES`.
        data: name of the data set.
        digest: of its content.
        runs: finished runs by key; later stages rest on them.
        names: contenders (or, in stage `ablate`, ablations) to look at; all of them unless given.
    """
    if stage == "ablate":
        chosen = best_settings(OURS, data, digest, runs)
        for name, changes in ABLATIONS.items():
            if chosen is not None and (names is None or name in names):
                for seed in SEEDS:
                    yield Trial(data, digest, OURS, chosen | changes, seed)
        return
    for name, contender in CONTENDERS.items():
        if names is not None and name not in names:
            continue
        if stage == "tune":
            yield from tuning(name, data, digest)
        elif (settings := best_settings(name, data, digest, runs)) is not None:
            for seed in SEEDS:
                yield Trial(data, digest, contender.method, settings, seed)


def tuning(name: str, data: str, digest: str) -> list[Trial]:
    """The trials that choose a contender's settings."""
    contender = CONTENDERS[name]
    return [Trial(data, digest, contender.method, contender.fixed | settings, TUNING_SEED) for settings in contender.settings()]


def best_settings(name: str, data: str, digest: str, runs: Runs) -> dict[str, Any] | None:
    """The settings of the highest validation Recall@50; None until every setting has been tried."""
    tried = [(trial, runs.get(trial.key)) for trial in tuning(name, data, digest)]
    scores = [run["validation"]["recall_50"] for _, run in tried if run is not None]
    if len(scores) < len(tried):
        return None
    return tried[scores.index(max(scores))][0].settings
