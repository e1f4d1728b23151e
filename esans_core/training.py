"""One pass over the training events: history in, next item out."""

from collections.abc import Callable

import torch
from torch import Tensor

from esans_core.objective import RetrievalObjective
from esans_core.sequences import Sequences
from esans_core.towers import TwoTower


def train_epoch(
    model: TwoTower,
    objective: RetrievalObjective,
    sequences: Sequences,
    targets: tuple[Tensor, Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    batch_size: int,
    seed: int,
    on_step: Callable[[int, int, float], None] | None = None,
) -> float:
    """Train on every target once, in an order that depends on the seed alone.

    Args:
        model: two towers; the epoch runs on the device they are on.
        objective: the loss.
        sequences: the users' events.
        targets: users int64 [T] and positions int64 [T], from `Sequences.training_targets`.
        optimizer: over the model's parameters.
        batch_size: positives per step; a last batch of one is dropped, since it has no in-batch negatives.
        seed: order, negatives and id dropout of this epoch; give each epoch another.
        on_step: called with (step, steps, loss) about twenty times an epoch.

    Returns:
        Mean loss over the steps.

    Raises:
        ValueError: fewer than two targets.
        FloatingPointError: the loss is no longer finite.
    """
    users, positions = targets
    if len(users) < 2:
        raise ValueError(f"{len(users)} training targets: at least 2 events with a history before them are needed")
    device = model.item_input.content.device
    torch.manual_seed(seed)
    generator = torch.Generator(device=device).manual_seed(seed)
    order = torch.randperm(len(users), generator=torch.Generator().manual_seed(seed))
    batches = [batch for batch in order.split(batch_size) if len(batch) > 1]
    report_every = max(1, len(batches) // 20)
    model.train()
    objective.train()
    objective.begin_epoch()
    total = torch.zeros((), device=device)
    for step, batch in enumerate(batches, start=1):
        users_BD = model.encode_users_of(sequences, users[batch], positions[batch])
        positives = sequences.items[positions[batch]].to(device)
        loss = objective(users_BD, positives, model.encode_items, generator, users[batch].to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        total += loss.detach()
        if on_step is not None and step % report_every == 0:
            on_step(step, len(batches), float(loss.detach()))
    objective.end_epoch()
    mean = float(total) / len(batches)
    if not torch.isfinite(torch.tensor(mean)):
        raise FloatingPointError(f"the training loss became {mean}; lower the learning rate or raise the temperature")
    return mean
