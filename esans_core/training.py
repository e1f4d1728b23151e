"""One pass over the training events: history in, next item out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from esans_core.defaults import TRAINING, Schedule
from esans_core.item_input import ItemInput
from esans_core.loader import Loader
from esans_core.objective import BatchPart, RetrievalObjective
from esans_core.parts import Excerpts
from esans_core.towers import TwoTower
from esans_core.transfer import to_device
from esans_core.world import World

DENSE_ITEMS = 100_000  # up to here, to update every row costs about as much as the batch's own work; at 1 M items 14 times that


def build_optimizers(
    model: TwoTower, objective: RetrievalObjective, *, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """AdamW over all parameters. If the id table's gradient is sparse, the table gets an Adam that updates only used rows.

    Args:
        model: two towers; `sparse_ids` pays above `DENSE_ITEMS` items.
        objective: the loss, whose temperature may be a parameter.
        learning_rate: learning rate of both optimizers.
        weight_decay: decoupled weight decay; a sparse table and a temperature have none.
    """
    inputs = [each for each in model.modules() if isinstance(each, ItemInput)]
    ids = [each for item in inputs for each in (item.id_embedding, item.popularity) if each is not None]
    tables = [each.weight for each in ids if each.sparse]
    sparse = {id(table) for table in tables}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in sparse]
    groups: list[dict[str, Any]] = [{"params": rest}, {"params": list(objective.parameters()), "weight_decay": 0.0}]
    adam = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)
    optimizers: list[torch.optim.Optimizer] = [adam]
    if tables:
        optimizers.append(torch.optim.SparseAdam(tables, lr=learning_rate))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = learning_rate
    return optimizers


def set_learning_rate(
    optimizers: Sequence[torch.optim.Optimizer], schedule: Schedule, *, done: int, total: int, warm_up: float = 0.0
) -> None:
    """Set the learning rate of the next step. It depends only on the steps done, so an interrupted training can go on.

    Args:
        optimizers: as `build_optimizers` makes them.
        schedule: how the rate goes on after the warm-up, from the optimizers' own rate: `cosine` falls along half a cosine to
            zero, `linear` along a line; `constant` keeps it.
        done: steps done, 0 to `total`.
        total: steps of the whole training.
        warm_up: share of all steps in which the rate rises along a line.
    """
    rising = warm_up * total
    if done < rising:
        share = (done + 1) / (rising + 1)
    else:
        fallen = (done - rising) / max(1.0, total - rising)
        share = {"cosine": 0.5 * (1 + math.cos(math.pi * fallen)), "linear": 1 - fallen, "constant": 1.0}[schedule]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * share


@dataclass
class Position:
    """How far an epoch has come. Together with the states of model, objective and optimizers, training can go on from there.

    Attributes:
        step: batches done.
        loss_sum: float32 scalar, sum of their losses.
        generator: source of the random draws that follow.
    """

    step: int
    loss_sum: Tensor
    generator: torch.Generator

    @classmethod
    def start(cls, seed: int, device: torch.device) -> "Position":
        """The beginning of an epoch."""
        return cls(0, torch.zeros((), device=device), torch.Generator(device=device).manual_seed(seed))


def train_epoch(
    model: TwoTower,
    objective: RetrievalObjective,
    loader: Loader,
    optimizers: Sequence[torch.optim.Optimizer],
    *,
    seed: int,
    precision: torch.dtype = torch.float32,
    mask_known: bool = TRAINING.mask_known,
    world: World | None = None,
    position: Position | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    after_step: Callable[[Position], None] | None = None,
) -> float:
    """Train once on all events of an epoch, in an order that depends only on the seed.

    Args:
        model: two towers; the epoch runs on the device they are on.
        objective: the loss.
        loader: makes the batches.
        optimizers: as `build_optimizers` makes them.
        seed: decides order, negatives and id dropout of this epoch; give each epoch another.
        precision: type of the matrix products: float32, or bfloat16, which is faster if the processor has it. Weights, sums and
            optimizer states stay in float32.
        mask_known: whether a user's other items in the same excerpt are left out of the negatives.
        world: the processes that train together; the loader must be made for the same. If it is given, even for one process,
            dropout follows from the seed and the step (`TwoTower.begin_step`), so that any number of processes drops the same.
        position: where to go on, as `after_step` got it; the beginning unless given.
        on_step: called with (step, steps, loss) about twenty times an epoch.
        after_step: called after every step.

    Returns:
        Mean loss over the steps.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    device = model.item_input.content.device
    together = world or World()
    torch.manual_seed(seed)
    epoch = loader.epoch(seed)
    model.train()
    objective.train()
    if position is None:
        position = Position.start(seed, device)
        objective.begin_epoch()
    report_every = max(1, epoch.num_batches // 20)
    for batch in epoch.batches(position.step):
        if world is not None:
            model.begin_step(seed * 1_000_003 + position.step)
        excerpt, positives = batch.excerpt_of_target, to_device(batch.positives, device)
        counts = together.counts_of(len(positives), device)
        if not sum(counts):  # all events of these users are history only
            position.step += 1
            continue
        weights = to_device(batch.weights, device) if loader.weighted else None
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == torch.bfloat16):
            users_bD, users_wD = model.encode_contexts(batch)
            users_wD = users_wD if loader.large_sets else None
            excerpts = Excerpts(to_device(excerpt, device), to_device(batch.items_wE, device), users_wD) if mask_known else None
            part = BatchPart(to_device(batch.users[excerpt], device), excerpts, together, counts, weights)
            loss = objective(users_bD, positives, model.encode_items, position.generator, part)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        together.sum_gradients(chain(model.parameters(), objective.parameters()))
        for optimizer in optimizers:
            optimizer.step()
        loss = together.sum(loss.detach())
        position.loss_sum += loss
        position.step += 1
        if on_step is not None and position.step % report_every == 0:
            on_step(position.step, epoch.num_batches, float(loss))
        if after_step is not None:
            after_step(position)
    objective.end_epoch()
    mean = float(position.loss_sum) / epoch.num_batches
    if not torch.isfinite(torch.tensor(mean)):
        raise FloatingPointError(f"the training loss became {mean}; lower the learning rate or raise the temperature")
    return mean
