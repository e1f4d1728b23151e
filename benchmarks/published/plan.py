"""Which trials are run on a log: the recipe with its seeds, a few tuning trials, the best settings with the same seeds, ties.

The recipe is the library's defaults, with the method `debiased_mns` and a pool of 2,048. Tuning starts from it and takes six
trials in five rounds. Each round starts from the best settings so far on validation. A trial that falls far behind is given up
early. A refit doubles the time of a training, so where the published tables train on the training part alone, only the first
seeds have one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.published.logs import TIES, log_of
from benchmarks.published.trial import METHOD, TUNING_SEED, Trial
from benchmarks.trials import Runs
from esans_core.defaults import TRAINING
from esans_core.towers import Order

POOL = 2048  # of the recipe
STAGES = ("recipe", "tune", "tuned", "ties")
Settings = Mapping[str, Any]


def rounds(epochs: int, order: Order) -> tuple[tuple[Settings, ...], ...]:
    """Changes to a recipe of some epochs that are tried together, round after round; the first one is the recipe itself."""
    less_dropout, more_negatives = {"dropout": round(TRAINING.dropout - 0.2, 2)}, {"negatives.num_pool": 2 * POOL}
    if order == "set":
        fixed = {"temperature": round(1.4 * TRAINING.temperature, 2), "learn_temperature": False}
        return (({}, {"epochs": 2 * epochs}), (less_dropout,), ({"dim": 2 * TRAINING.dim},), (more_negatives,), (fixed,))
    plain = {"history_means": False, "batch_size": TRAINING.batch_size // 2}
    fixed = {"temperature": TRAINING.temperature / 2, "learn_temperature": False}
    return (({}, plain), ({"members": 3, "dim": 3 * TRAINING.dim},), (fixed,), (more_negatives,), (less_dropout,))


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
        refit_seeds: how many of the seeds have a refit, unless the log's published tables need it from all.
    """

    log: str
    digest: str
    ties_digest: str | None = None
    method: str = METHOD
    epochs: int = TRAINING.epochs
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    ties_seeds: tuple[int, ...] = (1, 2)
    num_trials: int = 6
    refit_seeds: int = 2

    @property
    def recipe(self) -> dict[str, Any]:
        """The settings of the recipe: the defaults, for the plan's epochs."""
        return {"epochs": self.epochs, "negatives.num_pool": POOL}

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
                    replace(trial, data=self.log + TIES, digest=self.ties_digest, refit=False)
                    for trial in self._seeds(best, self.ties_seeds)
                )

    def tuning(self, runs: Runs) -> list[Trial]:
        """The tuning trials up to the first unfinished round, or the last one."""
        found, best = list[Trial](), self.recipe
        curve: tuple[float, ...] = ()
        for changes in rounds(self.epochs, log_of(self.log).order):
            left = self.num_trials - len(found)
            settings = [best | dict(change) for change in changes[:left]]
            trials = [Trial(self.log, self.digest, self.method, each, TUNING_SEED, False, curve) for each in settings]
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
        refits = len(self.seeds) if log_of(self.log).tables_use_validation else self.refit_seeds
        for seed in seeds:
            yield Trial(self.log, self.digest, self.method, settings, seed, refit=seed in self.seeds[:refits])
