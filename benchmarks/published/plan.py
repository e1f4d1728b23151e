"""Which trials are run on a log: the recipe with its seeds, a few tuning trials, the best settings with the same seeds, ties.

The recipe is the library's defaults. Tuning starts from it and takes six trials in four rounds. Each round starts from the best
settings so far on validation. A trial that falls far behind is given up early.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.published.logs import TIES, log_of
from benchmarks.published.trial import METHOD, TUNING_SEED, Trial
from benchmarks.trials import Runs
from esans_core.defaults import TRAINING
from esans_core.negatives import NegativeConfig

STAGES = ("recipe", "tune", "tuned", "ties")
Settings = Mapping[str, Any]


def rounds() -> tuple[tuple[Settings, ...], ...]:
    """Changes that are tried together, round after round; the first one is the recipe itself."""
    dropout = TRAINING.dropout - 0.2 if TRAINING.dropout >= 0.3 else TRAINING.dropout + 0.2
    usual = NegativeConfig.for_method("esans").num_pool  # of the library, without what ESANS would draw beside it
    return (
        ({}, {"negatives.num_pool": usual}),
        tuple({"temperature": round(factor * TRAINING.temperature, 4)} for factor in (0.7, 1.4)),
        ({"dropout": round(dropout, 2)},),
        ({"dim": 2 * TRAINING.dim},),
    )


@dataclass(frozen=True)
class Plan:
    """The trials of one log, as far as the finished ones decide them.

    Attributes:
        log: name of the log.
        digest: digest of its data.
        ties_digest: digest of its data with shuffled ties; None if it has no times.
        method: name of the method in the library.
        epochs: most epochs of a training.
        seeds: seeds that are reported.
        ties_seeds: seeds on shuffled ties.
        num_trials: how many tuning trials there are.
        num_pool: size of the pool that the recipe starts from; None for as many encoded items as ESANS has.
    """

    log: str
    digest: str
    ties_digest: str | None = None
    method: str = METHOD
    epochs: int = TRAINING.epochs
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    ties_seeds: tuple[int, ...] = (1, 2)
    num_trials: int = 6
    num_pool: int | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings of the recipe: the defaults, for the plan's epochs."""
        return {"epochs": self.epochs} | ({} if self.num_pool is None else {"negatives.num_pool": self.num_pool})

    def trials(self, stage: str, runs: Runs) -> Iterator[Trial]:
        """Trials of a stage, finished or not, as far as they are known."""
        if stage == "recipe":
            yield from self._seeds(self.recipe, self.seeds)
        elif stage == "tune":
            yield from self.tuning(runs)
        elif (best := self.best_settings(runs)) is not None:
            if stage == "tuned":
                yield from self._seeds(best, self.seeds)
            elif self.ties_digest is not None:
                yield from (
                    replace(trial, data=self.log + TIES, digest=self.ties_digest)
                    for trial in self._seeds(best, self.ties_seeds)
                )

    def tuning(self, runs: Runs) -> list[Trial]:
        """The tuning trials up to the first unfinished round, or the last one."""
        found, best = list[Trial](), self.recipe
        curve: tuple[float, ...] = ()
        for changes in rounds():
            left = self.num_trials - len(found)
            settings = [best | dict(change) for change in changes[:left]]
            trials = [Trial(self.log, self.digest, self.method, each, TUNING_SEED, curve) for each in settings]
            found += {trial.key: trial for trial in trials}.values()  # a change to what is so already is no other trial
            if any(trial.key not in runs for trial in found):
                break
            winner = self._best(found, runs)
            main = log_of(self.log).main
            best, curve = winner.settings, tuple(epoch[main] for epoch in runs[winner.key]["epochs"])
        return found

    def best_settings(self, runs: Runs) -> dict[str, Any] | None:
        """The settings of the best main metric on validation; None until every round has been run."""
        tried = self.tuning(runs)
        return None if any(trial.key not in runs for trial in tried) else self._best(tried, runs).settings

    def finished(self, stage: str, runs: Runs) -> list[dict[str, Any]]:
        """The runs of a stage's trials that are finished, by seed."""
        return [runs[trial.key] for trial in self.trials(stage, runs) if trial.key in runs]

    def _best(self, tried: Sequence[Trial], runs: Runs) -> Trial:
        main = log_of(self.log).main
        return max(tried, key=lambda trial: float(runs[trial.key]["validation"][main]))

    def _seeds(self, settings: dict[str, Any], seeds: Sequence[int]) -> Iterator[Trial]:
        return (Trial(self.log, self.digest, self.method, settings, seed) for seed in seeds)
