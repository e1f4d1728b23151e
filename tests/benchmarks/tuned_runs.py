"""Runs of the quality benchmark as its tuning leaves them."""

from typing import Any

from benchmarks.quality.methods import CONTENDERS
from benchmarks.quality.plan import Plan, Runs


def tuned(plan: Plan, name: str, runs: Runs | None = None, recall: float = 0.1) -> dict[str, dict[str, Any]]:
    """The runs with a contender's tuning added to them, each setting a little better than the one before."""
    found = dict(runs or {})
    for _ in CONTENDERS[name].rounds(plan.data):
        for rank, trial in enumerate(plan.tuning(name, found)):
            found.setdefault(trial.key, {"key": trial.key, "validation": {"recall_50": recall + 1e-6 * rank}})
    return found
