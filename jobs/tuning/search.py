"""Searches for better settings of one date's data, within a time, and says what it found."""

import hashlib
import io
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from numpy.typing import NDArray

from jobs.base.cutoffs import validation_recall
from jobs.base.errors import DataError
from jobs.base.files import write_json, write_text
from jobs.base.locks import alone_in
from jobs.base.settings import PipelineSettings
from jobs.lake.tables import Lake
from jobs.report.history import publish_history
from jobs.step.code_key import code_key
from jobs.training.checkpoint import Progress
from jobs.training.data import ItemClusters, TrainingData, load_item_clusters, load_training_data
from jobs.tuning.page import page, review
from jobs.tuning.proposal import FILE, propose, tuning_folder
from jobs.tuning.space import Space
from jobs.tuning.study import Asked, Study
from jobs.tuning.trial import AfterEpoch, Outcome, OutOfTime, TooSlow, train_trial

log = logging.getLogger(__name__)
_TENTHS = 10  # trials of different lengths are compared at the same tenth of their epochs


def run(settings: PipelineSettings) -> dict[str, Any]:
    """Search from today's settings until the time is over, then write proposal, page and review page of the date.

    What is measured is the recall on validation of the best epoch, as training measures it. The hold-out is never looked at.
    A search of the same date, tables, code and other settings goes on where the last one stopped.

    Raises:
        DataError: a table of the date is missing, nobody can be validated on, or today's settings cannot be trained.
    """
    clock = Clock(settings.tuning.minutes)
    folder = tuning_folder(settings)
    with alone_in(folder):  # a second search of the date waits for the first, and then goes on with it
        data, clusters = load_training_data(settings), load_item_clusters(settings)
        if not data.log.num_evaluated("validation"):
            raise DataError(
                "no user has both a training history and a validation event, so settings cannot be compared.",
                file=Lake.of(settings).path("sequences", settings.date),
                remedy="bring more events, or widen ingest.validation_days or ingest.validation_fraction.",
            )
        space = Space.of(settings)
        for name, why in space.left.items():
            log.info("%s stays as it is: %s", name, why)
        name = study_name(space, data.digests | clusters.digests)
        study = Study(folder, name, space, settings.tuning.seed)
        _run_trials(study, name, data, clusters, clock)
        found = propose(study, name, lambda number: np.load(_recalls(folder, name, number)))
        write_json(folder / "settings.json", settings.model_dump(mode="json"))
        write_text(folder / "review.md", review(found))
        write_text(folder / "index.html", page(found))
        write_json(folder / FILE, found)
        publish_history(settings)  # the start page says what waits
    log.info("%s %s", found["headline"], found["unfinished"])
    log.info("the page: %s", folder / "index.html")
    return {name: found[name] for name in ("headline", "proposal", "changes", "counts")} | {"page": str(folder / "index.html")}


class Clock:
    """How much of a search's time is over.

    Args:
        minutes: how long it may take, from now.
    """

    def __init__(self, minutes: float) -> None:
        self._minutes, self._started = minutes, time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() - self._started >= self._minutes * 60

    def __str__(self) -> str:
        return f"{(time.monotonic() - self._started) / 60:.1f} of {self._minutes:g} minutes"


def study_name(space: Space, digests: dict[str, str]) -> str:
    """The name of a study, made from all that decides what its trials come to, besides their values."""
    settings = space.settings
    parts = {"date": settings.ds, "tables": digests, "code": code_key(train_trial), "seed": settings.tuning.seed}
    return hashlib.sha256(json.dumps(parts | space.fixed(), sort_keys=True).encode()).hexdigest()[:16]


def _run_trials(study: Study, name: str, data: TrainingData, clusters: ItemClusters, clock: Clock) -> None:
    settings = study.space.settings
    folder, most = tuning_folder(settings), settings.tuning.trials
    while not clock.is_over and (asked := study.ask(most)) is not None:
        own = study.space.with_values(asked.values)
        shown = ", ".join(f"{name.partition('.')[2]} {value}" for name, value in asked.values.items())
        log.info("trial %d%s: %s", asked.number, " (today's settings)" if asked.is_today else "", shown)
        try:
            outcome = train_trial(
                own,
                data,
                clusters,
                number=asked.number,
                study=name,
                values=asked.values,
                folder=folder / "checkpoints",
                after_epoch=_watch(asked, own.training.epochs, clock, _longest(study)),
            )
        except OutOfTime:
            study.stop(asked)
            log.info("trial %d is stopped, %s are over; the next search goes on with it", asked.number, clock)
        except optuna.TrialPruned as error:
            study.prune(asked, str(error))
            log.info("trial %d is given up: %s; %s", asked.number, str(error) or "others were better by then", clock)
        except (DataError, torch.OutOfMemoryError) as error:
            study.refuse(asked, str(error))
            if asked.is_today:
                raise
            log.warning("trial %d cannot be trained: %s", asked.number, error)
        else:
            _finish(study, asked, outcome, _recalls(folder, name, asked.number))
            best = study.best()
            assert best is not None
            recall = outcome.metric.replace("_", " ")
            ending = (asked.number, recall, outcome.recall, best.value, best.number, study.ended, most, clock)
            log.info("trial %d: %s %.4f; best %.4f of trial %d; %d of at most %d trials, %s", *ending)


def _longest(study: Study) -> float:
    """The longest time that a training may take, in seconds; without end as long as today's is not known."""
    today = study.trial_of_today()
    seconds = today.user_attrs.get("seconds") if today is not None else None
    return math.inf if seconds is None else study.space.settings.tuning.max_cost * seconds


def _watch(asked: Asked, epochs: int, clock: Clock, longest: float) -> AfterEpoch:
    """What to do after each epoch: report it to the study, and end the trial if it is poor or slow, or if time is over."""
    reported: set[int] = set()

    def after_epoch(progress: Progress, seconds: float | None) -> None:
        metric, best = validation_recall(progress.curves), 0.0
        for values in progress.curves:
            best, tenth = max(best, values[metric]), _TENTHS * int(values["epoch"]) // epochs
            if tenth and tenth not in reported:
                reported.add(tenth)
                asked.trial.report(best, tenth)
        if progress.finished:
            return
        if not asked.is_today and asked.trial.should_prune():
            raise optuna.TrialPruned
        if not asked.is_today and seconds is not None and seconds > longest:
            raise TooSlow(f"it would take {seconds / 60:.1f} minutes, and tuning.max_cost allows {longest / 60:.1f}")
        if clock.is_over:
            raise OutOfTime

    return after_epoch


def _finish(study: Study, asked: Asked, outcome: Outcome, file: Path) -> None:
    """Keep the users' recalls, then the result."""
    _save(file, outcome.recalls)
    about = {name: getattr(outcome, name) for name in ("best_epoch", "epochs", "seconds", "metric")}
    study.finish(asked, outcome.recall, **about)


def _recalls(folder: Path, name: str, number: int) -> Path:
    return folder / "recalls" / name / f"{number}.npy"


def _save(file: Path, values: NDArray[np.float32]) -> None:
    """Write an array whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content, draft = io.BytesIO(), file.with_name(f".{file.name}")
    np.save(content, values)
    draft.write_bytes(content.getvalue())
    draft.replace(file)
