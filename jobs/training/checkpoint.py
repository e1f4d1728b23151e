"""Saves the state of training after every epoch and within one, so that an interrupted run goes on with the next batch."""

import json
import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esans_core.objective import RetrievalObjective
from esans_core.towers import TwoTower
from esans_core.training import Position
from jobs.base.files import write_json

log = logging.getLogger(__name__)
_KEPT = 8  # training runs whose checkpoints are kept, so that a rerun of the last days costs nothing


@dataclass
class Progress:
    """How far a training run has come. A run can be resumed from this and the tensors saved with it.

    Attributes:
        epoch: number of epochs done.
        step: number of batches done of the next epoch.
        best_epoch: epoch of the best validation recall, or the latest epoch if there is no user to validate on.
        best_recall: that recall; below 0 as long as there is none.
        finished: whether nothing is left to do.
        curves: of each epoch the loss, the validation recall and the measures of the drawn negatives.
    """

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_recall: float = -1.0
    finished: bool = False
    curves: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """The saved states of one training run.

    A state is saved completely or not at all: first the tensors under a new name, then the JSON that names them. At most two
    files of tensors are kept: the latest state, and that of the best epoch.

    Args:
        root: folder of the checkpoints of all runs.
        name: name of this run.
        model: the towers. They are saved and restored, as are the next two.
        objective: the loss.
        optimizers: always in the same order.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        model: TwoTower,
        objective: RetrievalObjective,
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> None:
        self.folder = root / name
        self.model, self.objective, self.optimizers = model, objective, optimizers
        self._saved = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.touch()
        for stale in sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(stale, ignore_errors=True)

    def due(self, minutes: float) -> bool:
        """Whether this many minutes have passed since the state was last saved or restored."""
        return time.monotonic() - self._saved >= minutes * 60

    def save(self, progress: Progress, position: Position | None = None) -> None:
        """Save the present state: at the end of an epoch, or at a position within the next one."""
        progress.step = position.step if position else 0
        # The model's buffers are left out. They are mostly content, would be most of the file, and can be read from the tables.
        tensors: dict[str, Tensor] = {f"model.{key}": value for key, value in self.model.named_parameters()}
        tensors |= {f"objective.{key}": value for key, value in self.objective.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{number}.{index}.{key}": torch.as_tensor(value) for key, value in state.items()}
        if position:
            tensors |= {"position.loss_sum": position.loss_sum, "position.generator": position.generator.get_state()}
        kept = {_file(progress.epoch, progress.step), _file(progress.best_epoch)}
        # Cloned, because two names may share memory, and the file format refuses that.
        whole = {key: value.detach().cpu().clone(memory_format=torch.contiguous_format) for key, value in tensors.items()}
        save_file(whole, self.folder / _file(progress.epoch, progress.step))
        write_json(self.folder / "progress.json", asdict(progress))
        for path in self.folder.glob("epoch-*.safetensors"):
            if path.name not in kept:
                path.unlink()
        self._saved = time.monotonic()

    def load(self, device: torch.device) -> tuple[Progress, Position | None]:
        """Restore the latest state into model, objective and optimizers.

        Returns:
            The saved progress, or a fresh one if nothing was saved; and the position within the next epoch, None at its start.
        """
        pointer = self.folder / "progress.json"
        if not pointer.exists():
            return Progress(), None
        progress = Progress(**json.loads(pointer.read_text()))
        tensors = load_file(self.folder / _file(progress.epoch, progress.step), device=str(device))
        self.model.load_state_dict(_below("model.", tensors), strict=False)
        self.objective.load_state_dict(_below("objective.", tensors))
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Any]] = {}
            for key, value in _below(f"optimizer.{number}.", tensors).items():
                index, name = key.split(".", 1)
                # A count of steps was a plain number before it was saved, and becomes one again.
                state.setdefault(int(index), {})[name] = value if value.is_floating_point() else value.item()
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        position = None
        if progress.step:
            generator = torch.Generator(device=device)
            generator.set_state(tensors["position.generator"].cpu())
            position = Position(progress.step, tensors["position.loss_sum"], generator)
        self._saved = time.monotonic()
        log.info("resuming after epoch %d, step %d of the next", progress.epoch, progress.step)
        return progress, position

    def load_best(self, device: torch.device) -> None:
        """Put the best epoch's weights into the model."""
        progress = json.loads((self.folder / "progress.json").read_text())
        tensors = load_file(self.folder / _file(progress["best_epoch"]), device=str(device))
        self.model.load_state_dict(_below("model.", tensors), strict=False)


def _file(epoch: int, step: int = 0) -> str:
    return f"epoch-{epoch}{f'-step-{step}' if step else ''}.safetensors"


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
