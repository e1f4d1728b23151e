"""The trials of a search, which Optuna proposes and keeps. They survive a kill."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from jobs.tuning.space import Space, Values

log = logging.getLogger(__name__)

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
# What is noted with a trial: its values, why it was refused or given up, the trial that had the same values or was stopped with
# them, and how often a process died with them.
_VALUES, _WHY, _SAME, _AGAIN, _KILLS = "values", "why", "same_as", "again_as", "kills"
_MOST_KILLS = 2  # a trial that kills its process, by its need of memory for instance, must not keep a search from going on
_FIRST_AT_RANDOM = 8  # trials before the sampler has enough to learn from, today's settings among them
# A trial is compared with the median of the others at the same tenth of its epochs. The first tenths say little, because the
# step size is still large and a trial with a low one is behind.
_STARTUP, _WARM_UP, _LEAST = 3, 3, 2


@dataclass(frozen=True)
class Asked:
    """A trial that is about to run.

    Attributes:
        number: its number.
        values: of the settings that are searched.
        is_today: whether these are today's.
    """

    trial: optuna.Trial
    values: Values
    is_today: bool

    @property
    def number(self) -> int:
        """Number of the trial."""
        return self.trial.number


class Study:
    """The trials of one search, in a journal on disk. Only one process at a time may hold it.

    A trial that was killed, or ran out of time, counts as failed and is queued again with the same values; but not one that was
    killed twice before its first epochs ended. Optuna's sampler is seeded anew for each trial, by how many have ended before.
    So a search that was interrupted proposes what it would have proposed without that.

    Args:
        folder: where the journal lies.
        name: stands for all that decides a trial's result besides its values. Trials under another name are left alone.
        space: what is searched.
        seed: seed of the search.
    """

    def __init__(self, folder: Path, name: str, space: Space, seed: int) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        journal = folder / "journal.log"
        _mend(journal)
        self.space, self._seed = space, seed
        pruner = optuna.pruners.MedianPruner(_STARTUP, _WARM_UP, n_min_trials=_LEAST)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        self._optuna = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", pruner=pruner, load_if_exists=True
        )
        for trial in self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            kills = 0 if trial.intermediate_values else trial.user_attrs.get(_KILLS, 0) + 1
            log.info("trial %d was killed%s", trial.number, "" if kills < _MOST_KILLS else " again, and is left out")
            self._stop(trial.number, values_of(trial) if kills < _MOST_KILLS else {}, kills)
        if self.trial_of_today() is None and not self._today_waits():
            self._queue(space.today)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that ran, in their order, each set of values once: by the last trial that had it."""
        followed, found = self._followed(), self._optuna.get_trials(deepcopy=False)
        return [
            trial
            for trial in found
            if trial.state != TrialState.WAITING
            and _VALUES in trial.user_attrs
            and _SAME not in trial.user_attrs
            and followed.get(trial.number, TrialState.WAITING) == TrialState.WAITING
        ]

    @property
    def ended(self) -> int:
        """How many trials need not run again: finished, pruned, refused or killed twice, also with the values of another."""
        followed, over = self._followed(), (*FINISHED, TrialState.FAIL)
        return sum(
            trial.state in over and trial.number not in followed and _VALUES in trial.user_attrs
            for trial in self._optuna.get_trials(deepcopy=False)
        )

    def ask(self, most: int) -> Asked | None:
        """The next trial; None if there are as many as there may be.

        A trial whose values another one had, which has ended, gets the result of that one, and the next is asked for. Today's
        settings run in any case: those of an earlier day may have been given up before they became today's.

        Args:
            most: most trials.
        """
        while self.ended < most or self._today_waits():
            sampler = optuna.samplers.TPESampler(n_startup_trials=_FIRST_AT_RANDOM, seed=self._seed * 100_003 + self.ended)
            self._optuna.sampler = sampler
            trial = self._optuna.ask()
            suggested = self.space.suggest(trial)
            values = trial.user_attrs.get(_VALUES, suggested)
            is_today = values == self.space.today
            same = self._known(values, (TrialState.COMPLETE,) if is_today else FINISHED)
            trial.set_user_attr(_VALUES, values)
            if same is None:
                return Asked(trial, values, is_today)
            trial.set_user_attr(_SAME, same.number)
            if same.state == TrialState.COMPLETE:
                self._optuna.tell(trial, same.value)
            else:
                self._optuna.tell(trial, state=TrialState.PRUNED)
        return None

    def finish(self, asked: Asked, value: float, **about: Any) -> None:
        """A trial has come to its end.

        Args:
            asked: the trial.
            value: its recall on validation.
            about: JSON values to note with it.
        """
        for name, noted in about.items():
            asked.trial.set_user_attr(name, noted)
        self._optuna.tell(asked.trial, value)

    def prune(self, asked: Asked, why: str = "") -> None:
        """A trial was given up before its last epoch.

        Args:
            asked: the trial.
            why: the reason, if it is not that others were better at the same part of their epochs.
        """
        if why:
            asked.trial.set_user_attr(_WHY, why)
        self._optuna.tell(asked.trial, state=TrialState.PRUNED)

    def refuse(self, asked: Asked, error: str) -> None:
        """A trial cannot run with its values. It is not run again."""
        asked.trial.set_user_attr(_WHY, error)
        self._optuna.tell(asked.trial, state=TrialState.FAIL)

    def stop(self, asked: Asked) -> None:
        """A trial ran out of time. The next search goes on with it."""
        self._stop(asked.number, asked.values)

    def state(self, trial: FrozenTrial) -> str:
        """What became of a trial: finished, pruned, stopped (the next search goes on with it), refused, or killed twice."""
        if trial.state in FINISHED:
            return "finished" if trial.state == TrialState.COMPLETE else "pruned"
        if _WHY in trial.user_attrs:
            return "refused"
        return "stopped" if trial.number in self._followed() else "killed twice"

    def trial_of_today(self) -> FrozenTrial | None:
        """The finished trial of today's settings, if there is one."""
        return self._known(self.space.today, (TrialState.COMPLETE,))

    def best(self) -> FrozenTrial | None:
        """The finished trial with the highest value; today's settings before any other with the same."""
        today = self.trial_of_today()
        finished = [trial for trial in self.trials if trial.state == TrialState.COMPLETE]
        return max(finished, key=lambda trial: (trial.value, trial is today, -trial.number), default=None)

    def _stop(self, number: int, values: Values, kills: int = 0) -> None:
        """Count a trial as failed, and queue its values again if it has any."""
        self._optuna.tell(number, state=TrialState.FAIL)
        if values:
            self._queue(values, **{_AGAIN: number, _KILLS: kills})

    def _followed(self) -> dict[int, TrialState]:
        """Number of each trial that was stopped and queued again -> state of the trial that goes on with it."""
        found = self._optuna.get_trials(deepcopy=False)
        return {trial.user_attrs[_AGAIN]: trial.state for trial in found if _AGAIN in trial.user_attrs}

    def _queue(self, values: Values, **about: Any) -> None:
        self._optuna.enqueue_trial(self.space.kept(values), user_attrs={_VALUES: values} | about)

    def _known(self, values: Values, states: tuple[TrialState, ...]) -> FrozenTrial | None:
        """A trial with these values that is in one of these states."""
        found = self._optuna.get_trials(deepcopy=False, states=states)
        return next((trial for trial in found if values_of(trial) == values and _SAME not in trial.user_attrs), None)

    def _today_waits(self) -> bool:
        return self._known(self.space.today, (TrialState.WAITING,)) is not None


def values_of(trial: FrozenTrial) -> Values:
    """The values that a trial had; empty if it was killed before it got any."""
    return dict(trial.user_attrs.get(_VALUES, {}))


def _mend(journal: Path) -> None:
    """Remove what a kill may leave: a line that was cut short, and the lock of the process that is gone."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    with journal.open("rb+") as stream:
        content = stream.read()
        if content and not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)
