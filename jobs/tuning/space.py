"""Which settings a search tries, and which values of each."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from esans_core.negatives import NegativeConfig
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings, TrainingSettings
from jobs.training.data import order_of

Value = float | int | str
Values = dict[str, Value]  # `section.name` -> value


@dataclass(frozen=True)
class Range:
    """A real number. Values are rounded, so that a person can read them.

    Attributes:
        low: smallest value.
        high: largest value.
        log: whether small values are tried as finely as large ones, relative to their size.
    """

    low: float
    high: float
    log: bool = False

    def holding(self, value: float) -> "Range":
        """The same, and wide enough for a value."""
        return Range(min(self.low, value), max(self.high, value), self.log and value > 0)

    def suggest(self, trial: optuna.Trial, name: str) -> float:
        """The value that a trial shall have: two digits, or two places where the range is not logarithmic."""
        value = trial.suggest_float(name, self.low, self.high, log=self.log)
        return float(f"{value:.2g}") if self.log else round(value, 2)

    def kept(self, value: Value) -> Value:
        """How Optuna keeps a value."""
        return value


@dataclass(frozen=True)
class Steps:
    """One of a few values, in their order. Optuna keeps the place of a value and not the value itself, to know the order.

    Attributes:
        values: at least one.
    """

    values: tuple[Value, ...]

    def holding(self, value: Value) -> "Steps":
        """The same, with a value at its place."""
        if value in self.values:
            return self
        return Steps(tuple(sorted((*self.values, value), key=lambda each: (isinstance(each, str), each))))

    def suggest(self, trial: optuna.Trial, name: str) -> Value:
        """The value that a trial shall have."""
        return self.values[trial.suggest_int(name, 0, len(self.values) - 1)]

    def kept(self, value: Value) -> Value:
        """How Optuna keeps a value."""
        return self.values.index(value)


SEARCHED: dict[str, Range | Steps] = {
    "training.temperature": Range(0.02, 0.5, log=True),
    "training.learn_temperature": Steps((False, True)),
    "training.learning_rate": Range(3e-4, 2e-2, log=True),
    "training.dropout": Range(0.0, 0.8),
    "training.id_dropout": Range(0.0, 0.5),
    "training.members": Steps((1, 2, 4)),
    "training.history_means": Steps((False, True)),
    "training.embedding_dim": Steps((32, 48, 64, 96, 128, 192)),
    "training.epochs": Steps((4, 6, 8, 10, 12, 16, 20)),
    "training.batch_size": Steps((256, 512, 1024, 2048)),
    "training.order": Steps(("sequence", "set")),
    "sampling.num_pool": Steps((256, 512, 1024, 2048, 4096)),
}
PATIENCE = "training.patience"


@dataclass(frozen=True)
class Space:
    """What one search tries.

    Attributes:
        settings: today's, from which the search starts.
        parts: the values of each setting that is searched; today's value is always among them.
        left: the settings of `SEARCHED` that stay as they are, and why.
        today: today's values; the order of events is what `auto` comes to on this date.
    """

    settings: PipelineSettings
    parts: Mapping[str, Range | Steps]
    left: Mapping[str, str]
    today: Values

    @classmethod
    def of(cls, settings: PipelineSettings) -> "Space":
        """The space around today's settings.

        Raises:
            DataError: `tuning.keep` names a setting that no search tries, or leaves nothing to try.
        """
        keep = [name for name in (part.strip() for part in settings.tuning.keep.split(",")) if name]
        if unknown := set(keep) - SEARCHED.keys():
            raise DataError(
                f"tuning.keep names {', '.join(sorted(unknown))}, which no search tries.",
                remedy=f"name some of {', '.join(SEARCHED)}.",
            )
        flat = settings.flat() | {"training.order": order_of(settings)}
        left = {name: why for name in SEARCHED if (why := _why_left(settings, name, keep))}
        if left.keys() == SEARCHED.keys():
            said = "; ".join(f"{name}: {why}" for name, why in left.items())
            raise DataError(f"nothing is left to search ({said}).", remedy="leave something out of tuning.keep.")
        today: Values = {name: flat[name] for name in SEARCHED if name not in left}
        parts = {name: _fitting(settings, name).holding(value) for name, value in today.items()}  # type: ignore[arg-type]
        return cls(settings, parts, left, today)

    def suggest(self, trial: optuna.Trial) -> Values:
        """The values that a trial shall have."""
        return {name: part.suggest(trial, name) for name, part in self.parts.items()}

    def kept(self, values: Values) -> Values:
        """How Optuna keeps these values."""
        return {name: part.kept(values[name]) for name, part in self.parts.items()}

    def written(self, values: Values) -> Values:
        """Values as settings: what equals today's stays as it is written today, and patience follows the epochs.

        A patience of as many epochs as there are means that training never stops early. It keeps this meaning.
        """
        flat, training = self.settings.flat(), self.settings.training
        found = {name: flat[name] if value == self.today[name] else value for name, value in values.items()}
        if training.patience >= training.epochs and _environment(PATIENCE) is None and "training.epochs" in values:
            found[PATIENCE] = max(training.patience, int(values["training.epochs"]))
        return found

    def with_values(self, values: Values) -> PipelineSettings:
        """Today's settings with these values in place of today's."""
        whole = self.settings.model_dump()
        for name, value in self.written(values).items():
            section, _, field = name.partition(".")
            whole[section][field] = value
        return PipelineSettings(**whole)

    def fixed(self) -> dict[str, Any]:
        """All that decides a trial's result besides its values, the tables and the code, as JSON values."""
        flat = self.settings.flat()
        sections = {name: value for name, value in flat.items() if name.startswith(("training.", "sampling."))}
        free = {*self.parts, PATIENCE}
        kept = {name: value for name, value in sections.items() if name not in free}
        return kept | {"parts": {name: repr(part) for name, part in self.parts.items()}}


def _why_left(settings: PipelineSettings, name: str, keep: list[str]) -> str | None:
    if name in keep:
        return "tuning.keep says so"
    if variable := _environment(name):
        return f"the environment sets it ({variable}), and goes before what somebody agrees to"
    if name == "sampling.num_pool" and not NegativeConfig.for_method(settings.sampling.method, num_pool=1).num_pool:
        return f"the method {settings.sampling.method} has no pool"
    return None


def _environment(name: str) -> str | None:
    """The environment variable that sets a setting, if there is one."""
    wanted = f"ESANS_{name.replace('.', '__')}".upper()
    return next((variable for variable in os.environ if variable.upper() == wanted), None)


def _fitting(settings: PipelineSettings, name: str) -> Range | Steps:
    """The values of a setting that fit the settings beside it."""
    part, training = SEARCHED[name], settings.training
    match name:
        case "training.members":
            return Steps(_members(training))
        case "training.embedding_dim":
            divisor = training.num_heads * math.lcm(*_members(training))
        case "training.batch_size":
            divisor = training.num_shards
        case _:
            return part
    assert isinstance(part, Steps)
    return Steps(tuple(value for value in part.values if isinstance(value, int) and value % divisor == 0))


def _members(training: TrainingSettings) -> tuple[int, ...]:
    """The numbers of members that today's dimension can be divided among."""
    part = SEARCHED["training.members"]
    assert isinstance(part, Steps)
    tried = {int(value) for value in part.values} | {training.members}
    return tuple(sorted(value for value in tried if training.embedding_dim % (value * training.num_heads) == 0))
