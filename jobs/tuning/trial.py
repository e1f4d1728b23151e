"""Trains one trial of a search, with the same code as the challenger of a day, and measures it as training does."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import optuna
from numpy.typing import NDArray

from esans_core.world import World
from jobs.base.settings import PipelineSettings
from jobs.base.tracking import start_or_resume_run
from jobs.training.checkpoint import Progress
from jobs.training.data import ItemClusters, TrainingData, order_of
from jobs.training.train import build_training, resolve_device

_SUFFIX = "-tuning"  # trials are no candidates for production, so they have an experiment of their own
AfterEpoch = Callable[[Progress, float | None], None]


class OutOfTime(Exception):
    """The search has no time left for another epoch."""


class TooSlow(optuna.TrialPruned):
    """The trial would take too much longer than today's settings."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to.

    Attributes:
        recall: best mean recall on validation.
        best_epoch: epoch in which it was reached.
        epochs: how many epochs were trained.
        seconds: time of a whole training, by the epochs of this attempt; None if an earlier attempt did them all.
        recalls: float32 [U], recall of each validation user after the best epoch.
        metric: name of the recall, with its depth.
    """

    recall: float
    best_epoch: int
    epochs: int
    seconds: float | None
    recalls: NDArray[np.float32]
    metric: str


def train_trial(
    settings: PipelineSettings,
    data: TrainingData,
    clusters: ItemClusters,
    *,
    number: int,
    study: str,
    values: Mapping[str, Any],
    folder: Path,
    after_epoch: AfterEpoch,
) -> Outcome:
    """Train with a trial's settings. A trial that was stopped goes on where it stopped, by its checkpoints.

    Args:
        settings: the trial's.
        data: the date's tables.
        clusters: the date's clusters.
        number: number of the trial.
        study: name of the study.
        values: of the settings that are searched, for MLflow.
        folder: where the trials' checkpoints lie.
        after_epoch: called after each epoch with the progress and the seconds that a whole training takes at this pace, and at
            once with what an earlier attempt left and None. It may raise `optuna.TrialPruned` or `OutOfTime`, which end the
            trial.

    Raises:
        DataError: the tables are too few for these settings, or the device is not there.
    """
    key = hashlib.sha256(json.dumps([study, dict(values)], sort_keys=True).encode()).hexdigest()[:16]
    method, temperature = settings.sampling.method, settings.training.temperature
    training = build_training(
        settings,
        replace(data, order=order_of(settings)),
        key,
        device=(device := resolve_device(settings.training.device)),
        world=World(),
        clusters=clusters,
        method=method,
        temperature=temperature,
        checkpoints=folder,
        probes=False,
    )
    ended: optuna.TrialPruned | OutOfTime | None = None
    seconds, done, began = None, training.progress.epoch, time.monotonic()

    def measured(progress: Progress) -> None:
        nonlocal seconds
        seconds = (time.monotonic() - began) / (progress.epoch - done) * settings.training.epochs
        after_epoch(progress, seconds)

    with start_or_resume_run(_beside(settings), key, f"trial-{settings.ds}-{number}"):
        mlflow.log_params(dict(values) | {"effective_method": method})
        mlflow.set_tags({"esans.study": study, "esans.trial": str(number)})
        try:
            if done:
                after_epoch(training.progress, None)
            training.run(measured)
        except (optuna.TrialPruned, OutOfTime) as error:  # neither is a failure, so the run in MLflow must not become one
            ended = error
        state = "finished" if ended is None else "stopped" if isinstance(ended, OutOfTime) else "pruned"
        mlflow.set_tag("esans.trial_state", state)
    if ended is None:
        training.checkpoint.load_best(device)
        progress, recalls = training.progress, training.user_recalls().float().cpu().numpy()
        metric = training.cutoffs.validation_recall
        found = Outcome(progress.best_recall, progress.best_epoch, progress.epoch, seconds, recalls, metric)
    if not isinstance(ended, OutOfTime):
        shutil.rmtree(training.checkpoint.folder, ignore_errors=True)
    if ended is not None:
        raise ended
    return found


def _beside(settings: PipelineSettings) -> PipelineSettings:
    """The same settings, with the experiment of the trials."""
    registry = settings.registry
    beside = registry.model_copy(update={"experiment": registry.experiment + _SUFFIX})
    return settings.model_copy(update={"registry": beside})
