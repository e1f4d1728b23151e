"""What a search proposes, and whether it is more than chance."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial
from scipy.special import stdtrit

from jobs.base.settings import PipelineSettings
from jobs.tuning.study import Study, values_of

FILE = "proposal.json"
ERROR_RATE = 0.05  # chance to take a difference for real that is none, over all trials of a search together


def tuning_folder(settings: PipelineSettings) -> Path:
    """Folder of all that searches of the date leave."""
    return settings.home / "tuning" / settings.ds


def propose(study: Study, name: str, recalls: Callable[[int], NDArray[np.float32]]) -> dict[str, Any]:
    """What `proposal.json` holds: all trials, the best one, and how it compares with today's settings.

    Args:
        study: the trials.
        name: name of the study.
        recalls: number of a finished trial -> float32 [U], its recall for each validation user, the same users for all.

    Returns:
        JSON values:

        - `date`, `study`, `trials` (number, state, recall, values, best_epoch, epochs, seconds, today, why and by_epoch of
          each), `counts` by state, `searched`, and `left`: settings that were not searched, and why;
        - `metric`, and `users`, the number of validation users;
        - `today` and `best`: trial and recall of both; None until today's settings are finished;
        - `changes`: name -> value today and value proposed; empty if nothing was better;
        - `base`: today's value of every setting that training reads, which an agreement is checked against;
        - `cost`: how many times as long as with today's settings a training takes with the best ones; None if that is unknown;
        - `difference`: `mean`, its standard `error`, the `reach` of chance, `by_chance`; None if nothing was better;
        - `headline`, `tone` (good, plain), `unfinished`, a sentence about a trial that was stopped, and `proposal`, a name made
          from all that a person agrees to.
    """
    space, today, best = study.space, study.trial_of_today(), study.best()
    trials = [_row(study, trial) for trial in study.trials]
    flat = space.settings.flat()
    found: dict[str, Any] = {
        "date": space.settings.ds,
        "study": name,
        "trials": trials,
        "counts": dict(Counter(row["state"] for row in trials)),
        "searched": list(space.parts),
        "left": dict(space.left),
        "base": {key: value for key, value in flat.items() if key.startswith(("sampling.", "training."))},
        "minutes": space.settings.tuning.minutes,
        "review_hours": space.settings.registry.review_hours,
        "metric": None,
        "users": None,
        "today": None,
        "best": None,
        "changes": {},
        "difference": None,
        "cost": None,
    }
    if today is not None and best is not None:
        before = recalls(today.number)
        found |= {"metric": today.user_attrs["metric"], "users": len(before)}
        found |= {key: {"trial": trial.number, "recall": trial.value} for key, trial in (("today", today), ("best", best))}
        if best is not today:
            written = space.written(values_of(best))
            found["changes"] = {key: [flat[key], value] for key, value in written.items() if flat[key] != value}
            slow, usual = (trial.user_attrs.get("seconds") for trial in (best, today))
            found["cost"] = slow / usual if slow and usual else None
            found["difference"] = difference(recalls(best.number), before, compared=_tried(found))
    found["headline"], found["tone"] = _headline(found)
    found["unfinished"] = _unfinished(found)
    parts = [found[key] for key in ("study", "today", "best", "changes")]
    return found | {"proposal": hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]}


def difference(found: NDArray[np.float32], before: NDArray[np.float32], *, compared: int) -> dict[str, Any]:
    """How much better a trial is over pairs of the same users, and how much of that chance explains.

    The best of many trials looks better than it is. So each of them gets only its share of the error rate (the union bound). In
    at most 5 % of the searches in which no trial is really better, the best one lies beyond `reach`.

    Args:
        found: float32 [U], recall of each user with the trial's settings.
        before: the same for today's settings.
        compared: how many trials the best one was taken from.
    """
    gaps = found.astype(np.float64) - before
    mean, users = float(gaps.mean()), len(gaps)
    error = float(gaps.std(ddof=1)) / math.sqrt(users) if users > 1 else math.inf
    reach = float(stdtrit(users - 1, 1 - ERROR_RATE / max(1, compared))) * error if users > 1 else math.inf
    by_chance = mean <= reach
    return {
        "mean": mean,
        "error": error if math.isfinite(error) else None,
        "reach": reach if math.isfinite(reach) else None,
        "by_chance": by_chance,
        "compared": compared,
    }


def recall_label(metric: str | None) -> str:
    """How people read the name of a validation recall.

    >>> recall_label("validation_recall_50")
    'Recall@50'
    """
    return f"Recall@{(metric or '_50').rpartition('_')[2]}"


def _row(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    about, values = trial.user_attrs, values_of(trial)
    by_epoch = trial.intermediate_values
    return {
        "number": trial.number,
        "state": study.state(trial),
        "recall": trial.value if trial.value is not None else max(by_epoch.values(), default=None),
        "values": values,
        "best_epoch": about.get("best_epoch"),
        "epochs": about.get("epochs"),
        "seconds": about.get("seconds"),
        "today": values == study.space.today,
        "why": about.get("why"),
        "by_epoch": {str(tenth): value for tenth, value in by_epoch.items()},
    }


def _tried(found: dict[str, Any]) -> int:
    """How many trials were compared with that of today's settings."""
    return found["counts"].get("finished", 0) + found["counts"].get("pruned", 0) - 1


def _unfinished(found: dict[str, Any]) -> str:
    """What is known of a trial that ran out of time; empty if there is none."""
    row = next((row for row in found["trials"] if row["state"] == "stopped"), None)
    if row is None:
        return ""
    so_far = "before its first epoch ended" if row["recall"] is None else f"at a recall of {row['recall']:.4f} so far"
    return f"Trial {row['number']} was stopped {so_far}. Another search of this date goes on with it."


def _headline(found: dict[str, Any]) -> tuple[str, str]:
    """The result in one sentence, bad news first; and how a page colours it."""
    today, best, gap = found["today"], found["best"], found["difference"]
    if today is None:
        return "No proposal yet: today's settings were not trained to their end.", "plain"
    tried = _tried(found)
    others = f"{tried} other trial{'s' if tried != 1 else ''}"
    if gap is None:
        said = f"none of {others} was" if tried else "no other trial was finished, so nothing was found that is"
        return f"Keep today's settings: {said} better on validation.", "plain"
    label, share = recall_label(found["metric"]), gap["mean"] / today["recall"] if today["recall"] else math.inf
    numbers = f"{label} on validation {best['recall']:.4f} instead of {today['recall']:.4f}"
    gain = f", {share:.1%} more" if math.isfinite(share) else ""
    if gap["by_chance"]:
        return f"This may be chance: the best of {others} found {numbers}{gain}, and chance alone can find as much.", "plain"
    return (
        f"Better than today's settings, and by more than chance explains: {numbers}{gain}. It is the best of {others}.",
        "good",
    )
