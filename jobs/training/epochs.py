"""Runs the epochs of a training: what it trains on, when its state is saved, and when it stops."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import torch
from torch import Tensor

from esans_core.evaluation import evaluate
from esans_core.loader import Loader
from esans_core.objective import RetrievalObjective
from esans_core.towers import TwoTower
from esans_core.training import Position, build_optimizers, set_learning_rate, train_epoch
from esans_core.world import World
from jobs.base.cutoffs import Cutoffs
from jobs.base.errors import DataError
from jobs.base.settings import PipelineSettings
from jobs.lake.event_log import some_users
from jobs.lake.tables import Lake
from jobs.training.checkpoint import Checkpoint, Progress
from jobs.training.data import TrainingData
from jobs.training.probe import NegativeProbe

log = logging.getLogger(__name__)


def make_loader(settings: PipelineSettings, data: TrainingData, world: World) -> Loader:
    """The loader that makes the batches of a training run.

    Raises:
        DataError: there is nothing to train on.
    """
    training = settings.training
    try:
        return Loader(
            data.log,
            batch_size=training.batch_size,
            max_history=training.max_history,
            ordered=data.order == "sequence",
            window_targets=training.window_events,
            num_shards=training.num_shards,
            sample_fraction=training.sample_fraction,
            sample_seed=training.seed,
            world=world,
        )
    except ValueError as error:
        raise DataError(
            str(error),
            file=Lake.of(settings).path("sequences", settings.date),
            remedy="add more events, or change training.sample_fraction, batch_size, num_shards or processes to fit them.",
        ) from error


class Training:
    """A training run, which goes on where its last attempt stopped.

    Args:
        settings: settings of the run.
        data: the tables that it reads.
        model: fresh towers on the training device.
        objective: the loss.
        loader: makes the batches (`make_loader`).
        name: name of its checkpoints.
        device: the training device.
        world: the processes that train together; only the first one saves and reports.
        epochs: epochs to stop after, without validation, in a schedule that is still that of all; None validates.
        checkpoints: folder of the checkpoints; `checkpoints` in the home folder unless given.
        probes: whether the negatives are measured after each epoch.

    Attributes:
        model: the towers.
        progress: how far it has come.
        checkpoint: its saved states.
        cutoffs: depths at which recall is measured; validation uses the first one.
    """

    def __init__(
        self,
        settings: PipelineSettings,
        data: TrainingData,
        model: TwoTower,
        objective: RetrievalObjective,
        loader: Loader,
        name: str,
        device: torch.device,
        world: World,
        epochs: int | None = None,
        checkpoints: Path | None = None,
        probes: bool = True,
    ) -> None:
        self._settings, self.model, self._objective = settings, model, objective
        self._device, self._world = device, world
        self._epochs, self._validates = epochs or settings.training.epochs, epochs is None
        training = settings.training
        rates = {"learning_rate": training.learning_rate, "weight_decay": training.weight_decay}
        self._optimizers = build_optimizers(model, objective, **rates)
        folder = checkpoints or settings.home / "checkpoints"
        self.checkpoint = Checkpoint(folder, name, model, objective, self._optimizers)
        self.progress, self._position = self.checkpoint.load(device)
        self._loader = loader
        log.info("%d training events, %d shards, users as a %s", loader.num_targets, loader.num_shards, data.order)
        if left_out := self._loader.epoch(0).num_left_out:
            log.warning(
                "about %d excerpts of users' events are in no batch of an epoch; each epoch leaves out others", left_out
            )
        self._validation, self._probe = None, None
        self.cutoffs = Cutoffs.for_catalogue(len(data.item_ids))
        if data.log.num_evaluated("validation"):
            self._probe = None if world.rank or not probes else NegativeProbe(settings, data, objective)
            users = some_users(data.log, "validation", training.validation_users)
            self._validation = users.select(torch.arange(world.rank, users.num_users, world.size))
        elif self._validates:
            log.warning(
                "no user has both a training history and a validation event, so training cannot stop early, and the last of "
                "the %d epochs is kept",
                training.epochs,
            )

    @property
    def false_means(self) -> str | None:
        """What the curves count as a false negative (`NegativeProbe`); None if they count none."""
        return self._probe.false_means if self._probe else None

    def negatives_verdict(self) -> dict[str, Any] | None:
        """What better negatives could still win (`NegativeProbe.verdict`); None if there was nobody to ask about."""
        sampling = self._settings.sampling
        return self._probe.verdict(self.model, max(1, sampling.num_pool)) if self._probe else None

    def run(self, after_epoch: Callable[[Progress], None] = lambda progress: None) -> None:
        """Train until the last epoch, or until validation recall has not improved for `patience` epochs.

        If there is no user to validate on, no recall is reported, and the last epoch counts as the best.

        Args:
            after_epoch: called when an epoch has been saved. If it raises an error, training ends with it, and another attempt
                goes on with the next epoch.
        """
        training, progress = self._settings.training, self.progress
        while not progress.finished:
            epoch, started = progress.epoch + 1, time.monotonic()
            loss = self._epoch(epoch)
            recall = None if self._validation is None else self._recall()
            progress.epoch = epoch
            measured = {"train_loss" if self._validates else "refit_train_loss": loss} | (
                {} if recall is None else {self.cutoffs.validation_recall: recall}
            )
            measured["temperature"] = self._objective.temperature.item()
            measured |= self._probe.measure(self.model) if self._probe else {}
            progress.curves.append({"epoch": epoch} | measured)
            if recall is None:
                progress.best_epoch = epoch
            elif recall > progress.best_recall:
                progress.best_epoch, progress.best_recall = epoch, recall
            progress.finished = epoch >= self._epochs or epoch - progress.best_epoch >= training.patience
            if self._world.rank:
                continue
            self.checkpoint.save(progress)
            mlflow.log_metrics(measured, step=epoch)
            log.info(
                "epoch %d of %d: loss %.4f, validation recall@%d %s, %.1f s on %s",
                epoch,
                self._epochs,
                loss,
                self.cutoffs.first,
                "unknown" if recall is None else f"{recall:.4f}",
                time.monotonic() - started,
                self._device,
            )
            after_epoch(progress)

    def log_curves(self) -> None:
        """Log the measurements of all epochs done so far to the current MLflow run."""
        for values in self.progress.curves:
            measured = {name: value for name, value in values.items() if name != "epoch"}
            mlflow.log_metrics(measured, step=int(values["epoch"]))

    def _epoch(self, epoch: int) -> float:
        position, self._position = self._position, None
        training, seed = self._settings.training, self._settings.training.seed * 100_003 + epoch
        steps = self._loader.epoch(seed).num_batches

        def set_rate(step: int) -> None:
            done = (epoch - 1) * steps + step
            total = training.epochs * steps
            set_learning_rate(self._optimizers, training.schedule, done=done, total=total, warm_up=training.warm_up)

        def after_step(now: Position) -> None:
            set_rate(now.step)
            if not self._world.rank:
                self._save_when_due(now)

        set_rate(position.step if position else 0)
        return train_epoch(
            self.model,
            self._objective,
            self._loader,
            self._optimizers,
            seed=seed,
            precision=getattr(torch, training.precision),
            mask_known=training.mask_known,
            world=self._world,
            position=position,
            on_step=lambda step, steps, loss: log.info("epoch %d, step %d of %d, loss %.4f", epoch, step, steps, loss),
            after_step=after_step,
        )

    def _save_when_due(self, position: Position) -> None:
        if self.checkpoint.due(self._settings.run.checkpoint_minutes):
            self.checkpoint.save(self.progress, position)

    def user_recalls(self) -> Tensor:
        """float [U], recall of each validation user of this process, with the towers as they are. There must be one."""
        assert self._validation is not None
        return evaluate(self.model, self._validation, "validation", ks=self.cutoffs.ks[:1]).recall[self.cutoffs.first]

    def _recall(self) -> float:
        """Mean recall over the validation users. Each process ranks its share of them."""
        found = torch.zeros(2, dtype=torch.float64, device=self._device)
        if self._validation is not None and self._validation.num_users:
            recall = self.user_recalls()
            found = torch.stack([recall.sum(), recall.new_tensor(len(recall))]).to(self._device)
        total, count = self._world.sum(found).tolist()
        return total / count
