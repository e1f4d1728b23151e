"""Plans the trials of the benchmark: tuning, then the chosen settings with five seeds, then ablations of our method."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.quality.frozen import is_large_shop
from benchmarks.quality.methods import ABLATIONS, CONTENDERS, NUM_TRIALS, POOLS, TEMPERATURES, Settings
from benchmarks.quality.trial import TUNING_SEED, Trial

SEEDS = (1, 2, 3, 4, 5)
STAGES = ("tune", "final", "ablate")
OURS, ESTIMATES_IT = "esans", "debiased_mns"
# Seeds of runs that explain a large shop without competing there: full softmax, which takes far longer, and smaller pools.
REFERENCE_SEEDS = SEEDS[:2]
# These have the same catalogue with other users, or a larger one. They take over settings and are not tuned anew.
TUNED_ON = {"shop-100k-low": "shop-100k-mid", "shop-100k-high": "shop-100k-mid", "shop-1m": "shop-100k-mid"}
# Where a seed takes minutes, a baseline is dropped once its best validation Recall@50 is below a share of that of debiased MNS
# after the same number of settings: after the temperatures, or after all settings.
SCREENED = ("movielens", "shop-100k-mid")
LEAST_SHARES = {len(TEMPERATURES): 0.9, NUM_TRIALS: 0.95}
_NEVER_SCREENED = (OURS, ESTIMATES_IT, "uniform")  # uniform draws are the lower end of the gap up to full softmax
Runs = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Plan:
    """The trials of one data set, as far as the finished ones decide them.

    Attributes:
        data: name of the data set.
        digest: digest of its content.
        tuned_on: name and digest of the data set whose tuned settings it takes over; unless given, it is tuned itself.
        views: views of its items; an ablation can only take away a view that is there.
    """

    data: str
    digest: str
    tuned_on: tuple[str, str] | None = None
    views: tuple[str, ...] = ("visual", "text", "behaviour")

    def trials(self, stage: str, runs: Runs, names: Sequence[str] | None = None) -> Iterator[Trial]:
        """Trials of a stage, finished or not, most wanted first. An ablation that changes nothing is left out.

        Args:
            stage: one of `STAGES`.
            runs: finished runs by key; later rounds and stages depend on them.
            names: contenders (or, in stage `ablate`, changes to one) to plan for; all of them unless given.
        """
        if stage == "ablate":
            yield from self._changed(OURS, ABLATIONS, SEEDS, runs, names)
            if is_large_shop(self.data):
                yield from self._changed(ESTIMATES_IT, POOLS, REFERENCE_SEEDS, runs, names)
            return
        for name in CONTENDERS if names is None else names:
            if stage == "tune":
                yield from self.tuning(name, runs) if self.tuned_on is None else ()
            elif (settings := self.best_settings(name, runs)) is not None:
                yield from self._seeds(name, settings, REFERENCE_SEEDS if self._too_large_for(name) else SEEDS)

    def tuning(self, name: str, runs: Runs) -> list[Trial]:
        """The trials that choose a contender's settings, up to its first unfinished round or its last one."""
        if self._too_large_for(name):
            return self.tuning(ESTIMATES_IT, runs)
        data, digest = self._tuning_data
        contender, found = CONTENDERS[name], list[Trial]()
        best = contender.fixed
        for changes in contender.rounds(data):
            found += [Trial(data, digest, contender.method, best | change, TUNING_SEED) for change in changes]
            if any(trial.key not in runs for trial in found) or self.fell_behind(name, found, runs) is not None:
                break
            best = _best(found, runs)
        return found

    def fell_behind(self, name: str, tried: Sequence[Trial], runs: Runs) -> float | None:
        """The share of debiased MNS's validation Recall@50 that a baseline's first trials reach, if it is too low to go on."""
        least = LEAST_SHARES.get(len(tried))
        if least is None or self._tuning_data[0] not in SCREENED or name in _NEVER_SCREENED or CONTENDERS[name].reference:
            return None
        others = self.tuning(ESTIMATES_IT, runs)[: len(tried)]
        if len(others) < len(tried) or any(trial.key not in runs for trial in (*tried, *others)):
            return None
        share = _reached(tried, runs) / _reached(others, runs)
        return share if share < least else None

    def best_settings(self, name: str, runs: Runs) -> dict[str, Any] | None:
        """The settings of the highest validation Recall@50; None until every round has been run, or if it fell behind."""
        tried = self.tuning(name, runs)
        if any(trial.key not in runs for trial in tried) or self.fell_behind(name, tried, runs) is not None:
            return None
        best = _best(tried, runs)
        if self._too_large_for(name):
            return CONTENDERS[name].fixed | {
                key: value for key, value in best.items() if key not in CONTENDERS[ESTIMATES_IT].fixed
            }
        return best

    def _changed(
        self, name: str, changed: Mapping[str, Settings], seeds: Sequence[int], runs: Runs, names: Sequence[str] | None
    ) -> Iterator[Trial]:
        chosen = self.best_settings(name, runs)
        for change, settings in changed.items():
            if (
                chosen is None
                or chosen | settings == chosen
                or settings.get("clusters.without", self.views[0]) not in self.views
            ):
                continue
            if names is None or change in names:
                yield from self._seeds(name, chosen | settings, seeds)

    def _seeds(self, name: str, settings: Settings, seeds: Sequence[int]) -> Iterator[Trial]:
        return (Trial(self.data, self.digest, CONTENDERS[name].method, settings, seed) for seed in seeds)

    @property
    def _tuning_data(self) -> tuple[str, str]:
        """Name and digest of the data set that settings are tuned on."""
        return self.tuned_on or (self.data, self.digest)

    def _too_large_for(self, name: str) -> bool:
        """Whether this reference takes the settings of the method that estimates it, and gets fewer seeds."""
        return CONTENDERS[name].reference and is_large_shop(self.data)


def _best(finished: Sequence[Trial], runs: Runs) -> dict[str, Any]:
    """Settings of the trial with the highest validation Recall@50."""
    return max(finished, key=lambda trial: _recall(trial, runs)).settings


def _reached(finished: Sequence[Trial], runs: Runs) -> float:
    return max(_recall(trial, runs) for trial in finished)


def _recall(trial: Trial, runs: Runs) -> float:
    return float(runs[trial.key]["validation"]["recall_50"])
