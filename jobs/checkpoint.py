"""Training state on disk after every epoch, so that an interrupted run goes on where it stopped."""

import json
import logging
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from esans_core.objective import RetrievalObjective
from esans_core.towers import TwoTower
from jobs.lake import write_json

log = logging.getLogger(__name__)
_KEPT = 8  # training runs whose checkpoints are kept, so that a rerun of the last days costs nothing


@dataclass
class Progress:
    """Where a training run stands; together with the tensors beside it, all that resuming needs."""

    epoch: int = 0
    best_epoch: int = 0
    best_recall: float = -1.0
    finished: bool = False
    curves: list[dict[str, float]] = field(default_factory=list)


class Checkpoint:
    """State after each epoch, written whole or not at all: tensors under a new name, then the JSON that points at them."""

    def __init__(
        self, root: Path, name: str, model: TwoTower, objective: RetrievalObjective, optimizer: torch.optim.Optimizer
    ) -> None:
        self.folder = root / name
        self.model, self.objective, self.optimizer = model, objective, optimizer
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.touch()
        for stale in sorted(root.iterdir(), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
            shutil.rmtree(stale, ignore_errors=True)

    def save(self, progress: Progress) -> None:
        """Keep the present epoch; keep its weights as the best ones if they are."""
        name = f"epoch-{progress.epoch}.safetensors"
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        tensors |= {f"objective.{key}": value for key, value in self.objective.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
        save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, self.folder / name)
        write_json(self.folder / "progress.json", asdict(progress))
        for path in self.folder.glob("epoch-*.safetensors"):
            if path.name not in (name, f"epoch-{progress.best_epoch}.safetensors"):
                path.unlink()

    def load(self, device: torch.device) -> Progress:
        """Restore the last complete epoch into model, objective and optimizer; a fresh `Progress` when there is none."""
        pointer = self.folder / "progress.json"
        if not pointer.exists():
            return Progress()
        progress = Progress(**json.loads(pointer.read_text()))
        tensors = load_file(self.folder / f"epoch-{progress.epoch}.safetensors", device=str(device))
        self.model.load_state_dict(_below("model.", tensors))
        self.objective.load_state_dict(_below("objective.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in _below("optimizer.", tensors).items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state})
        log.info("resuming after epoch %d", progress.epoch)
        return progress

    def load_best(self, device: torch.device) -> None:
        """Put the best epoch's weights into the model."""
        progress = json.loads((self.folder / "progress.json").read_text())
        tensors = load_file(self.folder / f"epoch-{progress['best_epoch']}.safetensors", device=str(device))
        self.model.load_state_dict(_below("model.", tensors))


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
